"""What ops tune is in the metrics as it stands: quotas, pauses, accounts in trouble, the source of pace, workers."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from makers import NOW
from sqlalchemy import insert

from gateway.domain import Tenant
from gateway.live import Config
from gateway.pauses import Kind, Pause, PauseScope
from gateway.ports import Moment
from gateway.quotas.model import Budget, Per, Quota
from gateway.standing import Breaker, Standing
from gateway.store import schema
from gateway.store.tuned import TunedRows
from gateway.telemetry import Metrics
from gateway.watch import Tuned, Used, Watch

EVERYONE = Tenant("*/live")
QUOTA = Quota(
    owner=EVERYONE,
    name="sms-cn",
    rate=Decimal(50),
    per_day=20000,
    budget=Budget(amount=Decimal("500.00"), currency="CNY", per=Per.DAY),
)
PAUSE = Pause(owner=EVERYONE, id="ps_1", kind=Kind.PAUSE, scope=PauseScope())
CONFIG = Config(
    moment=Moment(real=NOW, policy=NOW),
    seq=7,
    source="redis",
    epoch=1,
    quotas=(QUOTA,),
    pauses=(PAUSE,),
    standings={"*/live|sms-cn": Standing(breaker=Breaker.OPEN)},
    left={},
    frozen=False,
)
TUNED = Tuned(
    config=CONFIG,
    used=(
        Used(quota="*/live|sms-cn", of="", limit="per_day", number=12),
        Used(quota="*/live|sms-cn", of="", limit="budget", number=0.25),
    ),
    factors={"*/live|sms-cn": 0.25},
    workers=3,
    behind=1,
)


class Fixed:
    """What is tuned, as a test says it."""

    def __init__(self, tuned):
        self.now = tuned

    async def tuned(self):
        return self.now


async def test_everything_that_ops_tune_has_its_figure():
    metrics = Metrics()
    await Watch(Fixed(TUNED), metrics).once()

    text = metrics.render().decode()

    for line in (
        'gateway_quota_limit{limit="rate",quota="*/live|sms-cn"} 50.0',
        'gateway_quota_limit{limit="per_day",quota="*/live|sms-cn"} 20000.0',
        'gateway_quota_limit{limit="budget",quota="*/live|sms-cn"} 500.0',
        'gateway_quota_used{limit="per_day",of="",quota="*/live|sms-cn"} 12.0',
        'gateway_quota_budget_used_ratio{of="",quota="*/live|sms-cn"} 0.25',
        'gateway_quota_pace_factor{quota="*/live|sms-cn"} 0.25',
        'gateway_account_breaker{account="*/live|sms-cn",state="open"} 1.0',
        'gateway_account_pace_factor{account="*/live|sms-cn"} 0.0',
        'gateway_pauses{kind="pause"} 1.0',
        'gateway_pauses{kind="stop"} 0.0',
        'gateway_pace_source{source="redis"} 1.0',
        'gateway_pace_source{source="sql"} 0.0',
        'gateway_workers{applied="yes"} 2.0',
        'gateway_workers{applied="no"} 1.0',
    ):
        assert f"\n{line}\n" in text, line
    assert 'limit="budget",of' not in text


async def test_what_is_over_is_not_shown_any_more():
    metrics, fixed = Metrics(), Fixed(TUNED)
    watch = Watch(fixed, metrics)
    await watch.once()
    over = replace(PAUSE, until=NOW)
    later = replace(QUOTA, until=NOW - timedelta(seconds=1))
    fixed.now = replace(
        TUNED, config=replace(CONFIG, standings={}, pauses=(over,), quotas=(later,)), used=(), factors={}
    )
    await watch.once()

    text = metrics.render().decode()

    assert "sms-cn" not in text
    assert 'gateway_pauses{kind="pause"} 0.0' in text


async def test_it_is_read_from_the_store_as_it_stands(database):
    async with database.write() as conn:
        for number, applied in ((1, 0), (2, 9)):
            values = {"lock_key": number, "started_at": 0, "heartbeat_at": 0, "applied": applied}
            await conn.execute(insert(schema.owner).values(id=f"ow_{number}", **values))
        await conn.execute(schema.live.update().values(seq=9, source="sql"))

    tuned = await TunedRows(database, lambda adapter: adapter).tuned()

    assert (tuned.workers, tuned.behind, tuned.config.seq, tuned.config.source) == (2, 1, 9, "sql")
