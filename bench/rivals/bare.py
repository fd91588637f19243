"""(d) The bare loop: its share of the reminders rendered and sent through the same clients, 32 at once, nothing else.

python bench/rivals/bare.py COUNT CHANNELS SHARE OF
"""

from __future__ import annotations

import asyncio
import sys

from obvious import Job, Sender, text_of, with_uvloop
from work import job

AT_ONCE = 32


async def main(jobs: list[Job]) -> None:
    """Send them all, once there is a line on the input."""
    sender, left = Sender(), iter(jobs)

    async def one_by_one() -> None:
        for each in left:
            await sender.send(each, *text_of(each))

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*(one_by_one() for _ in range(AT_ONCE)))
    await asyncio.to_thread(sys.stdin.readline)  # its processor is looked at while it is there
    await sender.aclose()


if __name__ == "__main__":
    count, channels, share, of = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with_uvloop()
    asyncio.run(main([job(number, channels) for number in range(count) if number // 2 % of == share]))
