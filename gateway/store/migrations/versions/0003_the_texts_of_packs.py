"""the texts of packs in use"""

from alembic import op
import sqlalchemy as sa

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('pack_text',
    sa.Column('sha256', sa.Text(), nullable=False),
    sa.Column('pack', sa.Text(), nullable=False),
    sa.Column('version', sa.Text(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('sha256')
    )
    op.create_table('pack_set',
    sa.Column('sha256', sa.Text(), nullable=False),
    sa.Column('packs', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('sha256')
    )


def downgrade() -> None:
    op.drop_table('pack_set')
    op.drop_table('pack_text')
