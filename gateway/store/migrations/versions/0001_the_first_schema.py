"""the first schema"""

from alembic import op
import sqlalchemy as sa

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('account',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('adapter', sa.Text(), nullable=False),
    sa.Column('endpoint', sa.Text(), nullable=True),
    sa.Column('sender', sa.Text(), nullable=False),
    sa.Column('price_amount', sa.Text(), nullable=True),
    sa.Column('price_currency', sa.Text(), nullable=True),
    sa.Column('settings', sa.Text(), nullable=False),
    sa.Column('enabled', sa.Boolean(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'name')
    )
    op.create_table('address',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('borrower', sa.Text(), nullable=False),
    sa.Column('channel', sa.Text(), nullable=False),
    sa.Column('blind', sa.LargeBinary(), nullable=False),
    sa.Column('position', sa.SmallInteger(), nullable=False),
    sa.Column('value_enc', sa.LargeBinary(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('country', sa.Text(), nullable=True),
    sa.Column('zones', sa.Text(), nullable=False),
    sa.Column('dead_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.PrimaryKeyConstraint('tenant', 'borrower', 'channel', 'blind')
    )
    with op.batch_alter_table('address', schema=None) as batch_op:
        batch_op.create_index('address_blind', ['tenant', 'blind'], unique=False)

    op.create_table('api_key',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('mode', sa.Text(), nullable=False),
    sa.Column('role', sa.Text(), nullable=False),
    sa.Column('holder', sa.Text(), nullable=False),
    sa.Column('secret_hash', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('expires_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('revoked_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('attempt',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('ref', sa.Text(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('reminder', sa.Text(), nullable=True),
    sa.Column('origin', sa.Text(), nullable=False),
    sa.Column('person', sa.Text(), nullable=False),
    sa.Column('borrower', sa.Text(), nullable=False),
    sa.Column('debt', sa.Text(), nullable=False),
    sa.Column('creditor', sa.Text(), nullable=False),
    sa.Column('channel', sa.Text(), nullable=False),
    sa.Column('adapter', sa.Text(), nullable=True),
    sa.Column('account', sa.Text(), nullable=True),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('recipient_role', sa.Text(), nullable=False),
    sa.Column('actor_role', sa.Text(), nullable=False),
    sa.Column('flags', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('final_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('fence', sa.Integer(), server_default='0', nullable=False),
    sa.Column('owner', sa.Text(), nullable=True),
    sa.Column('deadline', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('settle_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('settle_tries', sa.SmallInteger(), server_default='0', nullable=False),
    sa.Column('borrower_revision', sa.Integer(), nullable=True),
    sa.Column('debt_revision', sa.Integer(), nullable=True),
    sa.Column('called_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('ended_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('segments', sa.SmallInteger(), server_default='1', nullable=False),
    sa.Column('price_amount', sa.Text(), nullable=True),
    sa.Column('price_currency', sa.Text(), nullable=True),
    sa.Column('ending', sa.Text(), nullable=True),
    sa.Column('code', sa.Text(), nullable=True),
    sa.Column('provider_id', sa.Text(), nullable=True),
    sa.Column('template', sa.Text(), nullable=True),
    sa.Column('template_version', sa.Integer(), nullable=True),
    sa.Column('language', sa.Text(), nullable=True),
    sa.Column('text_hash', sa.Text(), nullable=True),
    sa.Column('text_enc', sa.LargeBinary(), nullable=True),
    sa.PrimaryKeyConstraint('tenant', 'ref', 'started_at'),
    postgresql_partition_by='RANGE (started_at)'
    )
    with op.batch_alter_table('attempt', schema=None) as batch_op:
        batch_op.create_index('attempt_person', ['tenant', 'person', 'started_at'], unique=False)
        batch_op.create_index('attempt_reminder', ['tenant', 'reminder'], unique=False)
        batch_op.create_index('attempt_state', ['state', 'deadline'], unique=False)

    op.create_table('attempt_ref',
    sa.Column('ref', sa.Text(), nullable=False),
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('reminder', sa.Text(), nullable=True),
    sa.Column('adapter', sa.Text(), nullable=False),
    sa.Column('account', sa.Text(), nullable=False),
    sa.Column('provider_id', sa.Text(), nullable=True),
    sa.PrimaryKeyConstraint('ref')
    )
    with op.batch_alter_table('attempt_ref', schema=None) as batch_op:
        batch_op.create_index('attempt_provider', ['adapter', 'account', 'provider_id'], unique=False)

    op.create_table('borrower',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('person', sa.Text(), nullable=False),
    sa.Column('profile', sa.Text(), nullable=False),
    sa.Column('pii_enc', sa.LargeBinary(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    with op.batch_alter_table('borrower', schema=None) as batch_op:
        batch_op.create_index('borrower_person', ['tenant', 'person'], unique=False)

    op.create_table('change',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('who', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('before', sa.Text(), nullable=True),
    sa.Column('after', sa.Text(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    op.create_table('clock',
    sa.Column('id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('offset_us', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('debt',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('borrower', sa.Text(), nullable=False),
    sa.Column('creditor', sa.Text(), nullable=False),
    sa.Column('product', sa.Text(), nullable=False),
    sa.Column('portfolio', sa.Text(), nullable=True),
    sa.Column('debtor_kind', sa.Text(), nullable=False),
    sa.Column('due_date', sa.Text(), nullable=False),
    sa.Column('amount', sa.Text(), nullable=False),
    sa.Column('currency', sa.Text(), nullable=False),
    sa.Column('governing_law', sa.Text(), nullable=True),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('state_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('until', sa.Text(), nullable=True),
    sa.Column('policy_facts', sa.Text(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    with op.batch_alter_table('debt', schema=None) as batch_op:
        batch_op.create_index('debt_borrower', ['tenant', 'borrower'], unique=False)

    op.create_table('debt_event',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('debt', sa.Text(), nullable=False),
    sa.Column('type', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('amount', sa.Text(), nullable=True),
    sa.Column('currency', sa.Text(), nullable=True),
    sa.Column('until', sa.Text(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('recorded_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    with op.batch_alter_table('debt_event', schema=None) as batch_op:
        batch_op.create_index('debt_event_debt', ['tenant', 'debt', 'at'], unique=False)

    op.create_table('idempotency',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('route', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('fingerprint', sa.LargeBinary(), nullable=False),
    sa.Column('status', sa.SmallInteger(), nullable=False),
    sa.Column('answer', sa.LargeBinary(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'route', 'key')
    )
    op.create_table('identity',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('blind', sa.LargeBinary(), nullable=False),
    sa.Column('person', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'blind')
    )
    op.create_table('lease',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('owner', sa.Text(), nullable=False),
    sa.Column('until', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('name')
    )
    op.create_table('owner',
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('lock_key', sa.BigInteger(), nullable=False),
    sa.Column('started_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('heartbeat_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('dead_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.PrimaryKeyConstraint('id')
    )
    op.create_table('pack_override',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('rule', sa.Text(), nullable=False),
    sa.Column('max', sa.Integer(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('who', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'rule')
    )
    op.create_table('person',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    op.create_table('record',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('reminder', sa.Text(), nullable=True),
    sa.Column('attempt', sa.Text(), nullable=True),
    sa.Column('borrower', sa.Text(), nullable=True),
    sa.Column('channel', sa.Text(), nullable=True),
    sa.Column('state', sa.Text(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('leaf', sa.LargeBinary(), nullable=False),
    sa.Column('log_index', sa.BigInteger(), nullable=True),
    sa.PrimaryKeyConstraint('tenant', 'id', 'at'),
    postgresql_partition_by='RANGE (at)'
    )
    with op.batch_alter_table('record', schema=None) as batch_op:
        batch_op.create_index('record_at', ['tenant', 'at', 'id'], unique=False)
        batch_op.create_index('record_borrower', ['tenant', 'borrower', 'at'], unique=False)
        batch_op.create_index('record_reminder', ['tenant', 'reminder', 'at'], unique=False)

    op.create_table('record_outbox',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    op.create_table('record_side',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('borrower', sa.Text(), nullable=True),
    sa.Column('side_enc', sa.LargeBinary(), nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    op.create_table('reminder',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('key', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=True),
    sa.Column('by', sa.Text(), nullable=True),
    sa.Column('person', sa.Text(), nullable=False),
    sa.Column('borrower', sa.Text(), nullable=False),
    sa.Column('debt', sa.Text(), nullable=False),
    sa.Column('due_date', sa.Text(), nullable=False),
    sa.Column('shard', sa.SmallInteger(), nullable=False),
    sa.Column('channel', sa.Text(), nullable=False),
    sa.Column('channels', sa.Text(), nullable=False),
    sa.Column('purpose', sa.Text(), nullable=False),
    sa.Column('actor_role', sa.Text(), nullable=False),
    sa.Column('actor_id', sa.Text(), nullable=False),
    sa.Column('recipient_role', sa.Text(), nullable=False),
    sa.Column('template', sa.Text(), nullable=False),
    sa.Column('template_version', sa.Integer(), nullable=False),
    sa.Column('facts_enc', sa.LargeBinary(), nullable=False),
    sa.Column('priority', sa.SmallInteger(), nullable=False),
    sa.Column('segment', sa.Text(), nullable=True),
    sa.Column('value', sa.Text(), nullable=True),
    sa.Column('not_before', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('expires_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('anchor', sa.Text(), nullable=True),
    sa.Column('repeat', sa.Boolean(), nullable=False),
    sa.Column('escalate', sa.Text(), nullable=False),
    sa.Column('step', sa.SmallInteger(), server_default='0', nullable=False),
    sa.Column('next_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.Column('called', sa.Boolean(), server_default='0', nullable=False),
    sa.Column('fence', sa.Integer(), server_default='0', nullable=False),
    sa.Column('tries', sa.Integer(), server_default='0', nullable=False),
    sa.Column('attempt', sa.Text(), nullable=True),
    sa.Column('decision', sa.Text(), nullable=True),
    sa.Column('accepted_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('updated_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    with op.batch_alter_table('reminder', schema=None) as batch_op:
        batch_op.create_index('reminder_borrower', ['tenant', 'borrower', 'accepted_at'], unique=False)
        batch_op.create_index('reminder_debt', ['tenant', 'debt', 'template', 'accepted_at'], unique=False)
        batch_op.create_index('reminder_due', ['channel', 'shard', 'priority', 'next_at'], unique=False)
        batch_op.create_index('reminder_next', ['next_at'], unique=False)
        batch_op.create_index('reminder_person', ['tenant', 'person'], unique=False)

    op.create_table('reservation',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('id', sa.Text(), nullable=False),
    sa.Column('person', sa.Text(), nullable=False),
    sa.Column('borrower', sa.Text(), nullable=False),
    sa.Column('debt', sa.Text(), nullable=False),
    sa.Column('creditor', sa.Text(), nullable=False),
    sa.Column('channel', sa.Text(), nullable=False),
    sa.Column('address', sa.Text(), nullable=True),
    sa.Column('recipient_role', sa.Text(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('until', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('used_at', sa.BigInteger(), autoincrement=False, nullable=True),
    sa.PrimaryKeyConstraint('tenant', 'id')
    )
    with op.batch_alter_table('reservation', schema=None) as batch_op:
        batch_op.create_index('reservation_person', ['tenant', 'person', 'until'], unique=False)

    op.create_table('template_approval',
    sa.Column('tenant', sa.Text(), nullable=False),
    sa.Column('template', sa.Text(), nullable=False),
    sa.Column('version', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('content_hash', sa.Text(), nullable=False),
    sa.Column('approved', sa.Boolean(), nullable=False),
    sa.Column('at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('who', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('tenant', 'template', 'version', 'content_hash')
    )
    op.create_table('tenant',
    sa.Column('name', sa.Text(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('stale_after_s', sa.Integer(), server_default='86400', nullable=False),
    sa.PrimaryKeyConstraint('name')
    )
    if op.get_context().dialect.name == "postgresql":
        for parted in ("attempt", "record"):
            op.execute(f"CREATE TABLE {parted}_default PARTITION OF {parted} DEFAULT")


def downgrade() -> None:
    op.drop_table('tenant')
    op.drop_table('template_approval')
    with op.batch_alter_table('reservation', schema=None) as batch_op:
        batch_op.drop_index('reservation_person')

    op.drop_table('reservation')
    with op.batch_alter_table('reminder', schema=None) as batch_op:
        batch_op.drop_index('reminder_person')
        batch_op.drop_index('reminder_next')
        batch_op.drop_index('reminder_due')
        batch_op.drop_index('reminder_debt')
        batch_op.drop_index('reminder_borrower')

    op.drop_table('reminder')
    op.drop_table('record_side')
    op.drop_table('record_outbox')
    with op.batch_alter_table('record', schema=None) as batch_op:
        batch_op.drop_index('record_reminder')
        batch_op.drop_index('record_borrower')
        batch_op.drop_index('record_at')

    op.drop_table('record')
    op.drop_table('person')
    op.drop_table('pack_override')
    op.drop_table('owner')
    op.drop_table('lease')
    op.drop_table('identity')
    op.drop_table('idempotency')
    with op.batch_alter_table('debt_event', schema=None) as batch_op:
        batch_op.drop_index('debt_event_debt')

    op.drop_table('debt_event')
    with op.batch_alter_table('debt', schema=None) as batch_op:
        batch_op.drop_index('debt_borrower')

    op.drop_table('debt')
    op.drop_table('clock')
    op.drop_table('change')
    with op.batch_alter_table('borrower', schema=None) as batch_op:
        batch_op.drop_index('borrower_person')

    op.drop_table('borrower')
    with op.batch_alter_table('attempt_ref', schema=None) as batch_op:
        batch_op.drop_index('attempt_provider')

    op.drop_table('attempt_ref')
    with op.batch_alter_table('attempt', schema=None) as batch_op:
        batch_op.drop_index('attempt_state')
        batch_op.drop_index('attempt_reminder')
        batch_op.drop_index('attempt_person')

    op.drop_table('attempt')
    op.drop_table('api_key')
    with op.batch_alter_table('address', schema=None) as batch_op:
        batch_op.drop_index('address_blind')

    op.drop_table('address')
    op.drop_table('account')
