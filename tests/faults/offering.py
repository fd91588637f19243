"""Hands in so many reminders a second whatever is answered, from a processor of its own: what callers do at overload.

    python tests/faults/offering.py URL RATE SECONDS FIRST    (the key in API_KEY)

Says what was answered as JSON, each refusal with the seconds after which it may come again.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[1]))
from makers import reminder

OF, AT_ONCE = 25, 200


async def offer(url, rate, seconds, first):
    """In requests of OF, each at its time; while AT_ONCE wait for their answers the next is not made."""
    said, under_way, number = Counter(), set(), first
    headers = {"Authorization": f"Bearer {os.environ['API_KEY']}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as http:
        began = time.monotonic()
        for turn in range(int(rate * seconds / OF)):
            await asyncio.sleep(max(0.0, began + turn * OF / rate - time.monotonic()))
            if len(under_way) >= AT_ONCE:
                said["never asked"] += OF
                continue
            items = [reminder(n, channels=["sms"]) for n in range(number, number + OF)]
            number += OF
            task = asyncio.create_task(_ask(http, url, items, said))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
    return said


async def _ask(http, url, items, said):
    async with http.post(f"{url}/v1/reminders/batch", json={"items": items}) as answer:
        if answer.status >= 300:
            said[f"{answer.status}, again after {answer.headers.get('Retry-After')} s"] += len(items)
            return
        for result in (await answer.json())["results"]:
            said[str(result["status"])] += 1


if __name__ == "__main__":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    url, rate, seconds, first = sys.argv[1], *map(float, sys.argv[2:])
    print(json.dumps(asyncio.run(offer(url, rate, seconds, int(first)))))  # noqa: T201
