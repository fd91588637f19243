"""The witness of the roll-ups: a COUNT over the reminders themselves."""

from sqlalchemy import text

COUNTED = """
    SELECT queue, state, COALESCE(reason, '') AS reason,
    COALESCE((next_at + 59999999) / 60000000 * 60000000, -1) AS minute, COUNT(*) AS number
    FROM reminder GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
ROLLED_UP = """
    SELECT queue, state, reason, minute, CAST(SUM(number) AS BIGINT) AS number FROM
    (SELECT queue, state, reason, minute, number FROM backlog
     UNION ALL SELECT queue, state, reason, minute, number FROM backlog_delta) AS moved
    GROUP BY 1, 2, 3, 4 HAVING SUM(number) <> 0 ORDER BY 1, 2, 3, 4
"""


async def both(database):
    """What a COUNT says, and what the roll-ups say."""
    async with database.read() as conn:
        return [[tuple(r) for r in await conn.execute(text(query))] for query in (COUNTED, ROLLED_UP)]
