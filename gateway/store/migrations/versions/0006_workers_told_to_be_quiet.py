"""workers told to be quiet, and where they run"""

from alembic import op
import sqlalchemy as sa

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('owner', sa.Column('place', sa.Text(), nullable=True))
    op.add_column('owner', sa.Column('quiet_at', sa.BigInteger(), autoincrement=False, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('owner', schema=None) as batch_op:
        batch_op.drop_column('quiet_at')
        batch_op.drop_column('place')
