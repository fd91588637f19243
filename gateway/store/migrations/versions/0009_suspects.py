"""what a process decides on, and on what processes may have ended"""

from alembic import op
import sqlalchemy as sa

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'suspect',
        sa.Column('tenant', sa.Text(), nullable=False),
        sa.Column('reminder', sa.Text(), nullable=False),
        sa.Column('strikes', sa.SmallInteger(), nullable=False),
        sa.Column('owner', sa.Text(), nullable=True),
        sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint('tenant', 'reminder'),
    )
    op.add_column('owner', sa.Column('taking', sa.Text(), nullable=True))
    op.add_column('owner', sa.Column('taken_at', sa.BigInteger(), autoincrement=False, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('owner', schema=None) as batch_op:
        batch_op.drop_column('taken_at')
        batch_op.drop_column('taking')
    op.drop_table('suspect')
