"""quotas, pauses, standings"""

from alembic import op
import sqlalchemy as sa

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('live',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('source', sa.Text(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('since', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('hold_s', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('pace',
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('epoch', sa.BigInteger(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('key')
    )
    op.create_table('pause',
    sa.Column('owner', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('scope', sa.Text(), nullable=False),
    sa.Column('until', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('set_by', sa.Text(), nullable=False),
    sa.Column('set_role', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('asked_by', sa.Text(), nullable=True),
    sa.Column('asked_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('resumed_by', sa.Text(), nullable=True),
    sa.Column('resumed_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('ramp_s', sa.Integer(), server_default='0', nullable=False),
    sa.Column('waiting', sa.BigInteger(), nullable=True),
    sa.Column('expires_meanwhile', sa.BigInteger(), nullable=True),
    sa.Column('calling', sa.Text(), nullable=False),
    sa.Column('recalled', sa.Text(), nullable=False),
    sa.Column('may_arrive', sa.Text(), nullable=False),
    sa.Column('followed', sa.Boolean(), server_default='0', nullable=False),
    sa.PrimaryKeyConstraint('owner', 'id')
    )
    with op.batch_alter_table('pause', schema=None) as batch_op:
        batch_op.create_index('pause_resumed', ['resumed_at'], unique=False)

    op.create_table('quota',
    sa.Column('owner', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('spec', sa.Text(), nullable=False),
    sa.Column('before', sa.Text(), nullable=True),
    sa.Column('until', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.Column('gone', sa.Boolean(), nullable=False),
    sa.Column('set_by', sa.Text(), nullable=False),
    sa.Column('set_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('owner', 'name')
    )
    op.create_table('quota_count',
    sa.Column('bucket', sa.Text(), nullable=False),
    sa.Column('span', sa.Text(), nullable=False),
    sa.Column('start', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('units', sa.BigInteger(), nullable=False),
    sa.Column('micros', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('bucket', 'span', 'start')
    )
    with op.batch_alter_table('quota_count', schema=None) as batch_op:
        batch_op.create_index('quota_count_start', ['span', 'start'], unique=False)

    op.create_table('standing',
    sa.Column('pool', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('down', sa.Boolean(), nullable=False),
    sa.Column('clears_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('seq', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('pool')
    )
    op.execute("INSERT INTO live (id, seq, source, epoch, since, hold_s) VALUES (1, 0, 'sql', 1, 0, 5)")

    with op.batch_alter_table('account', schema=None) as batch_op:
        batch_op.add_column(sa.Column('weight', sa.Integer(), nullable=True))

    with op.batch_alter_table('owner', schema=None) as batch_op:
        batch_op.add_column(sa.Column('applied', sa.BigInteger(), server_default='0', nullable=False))

    with op.batch_alter_table('reminder', schema=None) as batch_op:
        batch_op.add_column(sa.Column('queue', sa.Text(), server_default='', nullable=False))
        batch_op.add_column(sa.Column('portfolio', sa.Text(), nullable=True))
        batch_op.add_column(sa.Column('places', sa.Text(), server_default='[]', nullable=False))

    # What was accepted before it was noted counts by what is true now alone.
    op.execute("UPDATE reminder SET queue = channel || '|' || tenant || '|' || template || '|' || priority")

    with op.batch_alter_table('reminder', schema=None) as batch_op:
        batch_op.alter_column('queue', existing_type=sa.Text(), server_default=None, nullable=False)
        batch_op.alter_column('places', existing_type=sa.Text(), server_default=None, nullable=False)
        batch_op.drop_index(batch_op.f('reminder_next'))
        batch_op.drop_index(batch_op.f('reminder_due'))
        batch_op.create_index('reminder_due', ['queue', 'next_at', 'accepted_at'], unique=False, sqlite_where=sa.text('next_at IS NOT NULL'), postgresql_where=sa.text('next_at IS NOT NULL'))
        batch_op.create_index('reminder_person_due', ['tenant', 'person', 'next_at'], unique=False, sqlite_where=sa.text('next_at IS NOT NULL'), postgresql_where=sa.text('next_at IS NOT NULL'))
        batch_op.create_index('reminder_put_off', ['by', 'next_at'], unique=False, sqlite_where=sa.text('next_at IS NOT NULL'), postgresql_where=sa.text('next_at IS NOT NULL'))
        batch_op.drop_column('shard')


def downgrade() -> None:
    with op.batch_alter_table('reminder', schema=None) as batch_op:
        batch_op.add_column(sa.Column('shard', sa.SmallInteger(), server_default='0', nullable=False))
        batch_op.drop_index('reminder_put_off', sqlite_where=sa.text('next_at IS NOT NULL'), postgresql_where=sa.text('next_at IS NOT NULL'))
        batch_op.drop_index('reminder_person_due', sqlite_where=sa.text('next_at IS NOT NULL'), postgresql_where=sa.text('next_at IS NOT NULL'))
        batch_op.drop_index('reminder_due', sqlite_where=sa.text('next_at IS NOT NULL'), postgresql_where=sa.text('next_at IS NOT NULL'))
        batch_op.create_index(batch_op.f('reminder_due'), ['channel', 'shard', 'priority', 'next_at'], unique=False)
        batch_op.create_index(batch_op.f('reminder_next'), ['next_at'], unique=False)
        batch_op.drop_column('places')
        batch_op.drop_column('portfolio')
        batch_op.drop_column('queue')

    with op.batch_alter_table('owner', schema=None) as batch_op:
        batch_op.drop_column('applied')

    with op.batch_alter_table('account', schema=None) as batch_op:
        batch_op.drop_column('weight')

    op.drop_table('standing')
    with op.batch_alter_table('quota_count', schema=None) as batch_op:
        batch_op.drop_index('quota_count_start')

    op.drop_table('quota_count')
    op.drop_table('quota')
    with op.batch_alter_table('pause', schema=None) as batch_op:
        batch_op.drop_index('pause_resumed')

    op.drop_table('pause')
    op.drop_table('pace')
    op.drop_table('live')
