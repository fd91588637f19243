"""packs assigned, and who acted with what"""

from alembic import op
import sqlalchemy as sa

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('policy_assignment',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('portfolio', sa.Text(), nullable=False),
    sa.Column('version', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('licences', sa.Text(), nullable=False),
    sa.Column('institution', sa.Text(), nullable=True),
    sa.Column('packs', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('who', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'portfolio', 'version')
    )
    # What stands already names no actor: rules that count by actor count it for each.
    op.add_column('attempt', sa.Column('actor_id', sa.Text(), nullable=True))
    op.add_column('attempt', sa.Column('technology', sa.Text(), nullable=True))
    op.add_column('reservation', sa.Column('actor_id', sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('reservation', schema=None) as batch_op:
        batch_op.drop_column('actor_id')

    with op.batch_alter_table('attempt', schema=None) as batch_op:
        batch_op.drop_column('technology')
        batch_op.drop_column('actor_id')

    op.drop_table('policy_assignment')
