"""What the contracts of stores begin with; a module that needs another `store` or `take` has its own."""

import orjson
import pytest
from makers import set_clock

from gateway.domain import Tenant
from gateway.intake import Done
from gateway.store.dispatch import DispatchStore

TENANT = Tenant("acme/live")


@pytest.fixture
async def store(database, log):
    await set_clock(database)
    return DispatchStore(database, log)


@pytest.fixture
def intake(database, take_in):
    return take_in(database)


@pytest.fixture
def take(store, intake):
    """Takes reminders in; their ids."""

    async def take(*raws):
        results = await intake.reminders(TENANT, list(raws))
        assert all(isinstance(result, Done) for result in results), results
        return [orjson.loads(result.body)["id"] for result in results]

    return take
