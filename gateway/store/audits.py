"""Whether what was sent was allowed, person by person, by the witness and from the log alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from gateway.audit.check import Found, Known, Violation, check
from gateway.audit.timeline import Timeline
from gateway.domain import Tenant
from gateway.policy.calendars import Calendars
from gateway.policy.model import Pack
from gateway.store.audit import AuditStore
from gateway.store.pack_texts import PackTexts


class Audits:
    """Checks the log a page of persons at a time."""

    def __init__(self, log: AuditStore, texts: PackTexts, calendars: Calendars) -> None:
        self._log = log
        self._texts = texts
        self._calendars = calendars

    async def check(
        self, tenant: Tenant, since: datetime, until: datetime, *, after: str, limit: int
    ) -> dict[str, Any]:
        """What the sends of these persons in [since, until) came to, and where the next page begins."""
        persons = await self._log.persons(tenant, since, until, after=after, limit=limit)
        pages: list[Found] = []
        async for line in self._log.timelines(tenant, persons, since, until):
            known = Known(
                packs=await self._packs(line),
                calendars=self._calendars.version,
                stated=self._calendars.overrides,
            )
            pages.append(await asyncio.to_thread(check, line, since=since, until=until, known=known))
        return {
            "checked": sum(found.checked for found in pages),
            "refused": sum(found.refused for found in pages),
            "withdrawn": sum(found.withdrawn for found in pages),
            "violations": [_shown(one) for found in pages for one in found.violations],
            "undeterminable": dict(Counter(gap.why for found in pages for gap in found.gaps)),
            "next": persons[-1] if len(persons) == limit else None,
        }

    async def _packs(self, line: Timeline) -> dict[str, Sequence[Pack] | None]:
        names = {judged.policy for judged in line.judged if judged.attempt and judged.policy}
        return {name: await self._texts.packs(name) for name in names}


def _shown(broken: Violation) -> dict[str, Any]:
    return broken._asdict()
