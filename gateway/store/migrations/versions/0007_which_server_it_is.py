"""which server's commits these are, to see a failover"""

from alembic import op
import sqlalchemy as sa

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('live', sa.Column('server', sa.Text(), nullable=True))
    op.add_column('live', sa.Column('frozen_at', sa.BigInteger(), autoincrement=False, nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('live', schema=None) as batch_op:
        batch_op.drop_column('frozen_at')
        batch_op.drop_column('server')
