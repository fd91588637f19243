"""Single requests that come at once are taken in together: one commit, and one of each statement, for all of them."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from gateway.domain import Tenant
from gateway.errors import Overloaded, StoreRefused
from gateway.intake.results import Result

MOST = 200
"""Requests that one commit answers at most."""
WAITING, SOON_S = 2_000, 1
"""Requests of a tenant that wait at most; another may come again after so many seconds."""
AT_ONCE = 2
"""Commits of a tenant under way at once: one is written while the next is checked."""

Take = Callable[[Tenant, Sequence[object]], Awaitable[list[Result]]]
Asked: TypeAlias = tuple[object, "asyncio.Future[Result]"]


class Together:
    """Hands requests to `take` in batches: the first at once, those that come meanwhile together after it."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._asked: dict[Tenant, list[Asked]] = defaultdict(list)
        self._under_way: Counter[Tenant] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def one(self, tenant: Tenant, raw: object) -> Result:
        """The result of one request; what `take` raises for its batch is raised here. Overloaded: too many wait."""
        if len(self._asked[tenant]) >= WAITING:
            raise Overloaded(retry_after_s=SOON_S)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._asked[tenant].append((raw, answer))
        if self._under_way[tenant] < AT_ONCE:
            self._under_way[tenant] += 1
            task = asyncio.create_task(self._work(tenant))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self, tenant: Tenant) -> None:
        """Take in what was asked for until nothing is left."""
        try:
            while asked := self._asked[tenant][:MOST]:
                del self._asked[tenant][:MOST]
                await self._answer(tenant, asked)
        finally:
            self._under_way[tenant] -= 1
            if not self._under_way[tenant]:
                del self._under_way[tenant], self._asked[tenant]

    async def _answer(self, tenant: Tenant, asked: Sequence[Asked]) -> None:
        try:
            results = await self._take(tenant, [raw for raw, _ in asked])
        except StoreRefused as wrong:
            if len(asked) == 1:
                _fail(asked, wrong)
                return
            for one in asked:  # what the store refuses of one must not spoil the others
                await self._answer(tenant, [one])
        except Exception as wrong:  # noqa: BLE001 (whoever asked is told)
            _fail(asked, wrong)
        else:
            for (_, answer), result in zip(asked, results, strict=True):
                if not answer.done():  # whoever asked may have hung up
                    answer.set_result(result)


def _fail(asked: Sequence[Asked], wrong: Exception) -> None:
    for _, answer in asked:
        if not answer.done():
            answer.set_exception(wrong)
