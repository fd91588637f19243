"""A provider with moods, in Aliyun's place: its own notes say when it was asked for what."""

import asyncio
import time
from contextlib import asynccontextmanager

from aiohttp import web
from sendrig import bring_in, free_port


class Provider:
    """`mood`: good | wrong password | too fast | silent."""

    def __init__(self):
        self.port, self.mood = free_port(), "good"
        self.asked, self.taken = [], []

    async def answer(self, request):
        sends = request.headers["x-acs-action"] == "SendSms"
        number = request.query.get("PhoneNumbers")
        if sends:
            self.asked.append(_now())
        match self.mood:
            case "wrong password":
                return web.json_response({"Code": "SignatureDoesNotMatch"}, status=400)
            case "too fast" if sends:
                return web.json_response({"Code": "Throttling.User"}, status=400)
            case "silent":
                if sends:
                    self.taken.append((_now(), number))
                await asyncio.Event().wait()
        if sends:
            self.taken.append((_now(), number))
        return web.json_response({"Code": "OK", "BizId": f"{len(self.taken)}^0", "SignStatus": 1})

    def times(self):
        return sorted(at for at, _ in self.taken)


@asynccontextmanager
async def against(rig):
    """Let the account speak to a provider of the test's own."""
    provider, app = Provider(), web.Application()
    app.router.add_post("/", provider.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", provider.port).start()
    await bring_in(rig.gateway, rig.simulators, aliyun=provider.port)
    await rig.gateway.accounts.refresh()
    try:
        yield provider
    finally:
        await runner.cleanup()


def _now():
    """This machine's clock, in µs."""
    return time.time_ns() // 1000
