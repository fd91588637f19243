"""the backlog, rolled up by minute"""

from alembic import op
import sqlalchemy as sa

from gateway.store.rollups import FILL, ROLLUPS

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('backlog',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('minute', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'queue', 'state', 'reason', 'minute'),
    sqlite_with_rowid=False
    )
    op.create_table('backlog_delta',
    sa.Column('id', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('queue', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('minute', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('number', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.execute(FILL)
    for statement in ROLLUPS[op.get_bind().dialect.name]:
        op.execute(sa.text(statement))


def downgrade() -> None:
    for what in ('insert', 'update', 'delete'):
        if op.get_bind().dialect.name == 'postgresql':
            op.execute(f'DROP TRIGGER backlog_{what} ON reminder')
            op.execute(f'DROP FUNCTION backlog_{what}()')
        else:
            op.execute(f'DROP TRIGGER backlog_{what}')
    op.drop_table('backlog_delta')
    op.drop_table('backlog')
