"""A database as `gateway db upgrade` leaves it, simulators for one test each, and fleets over both."""

import asyncio
from contextlib import AsyncExitStack

import fleet
import pytest
import sendrig


@pytest.fixture(scope="session")
def postgres_template(postgres):
    """The name of a database that the workers' commands take for theirs."""
    asyncio.run(postgres.say("CREATE DATABASE upgraded"))
    asyncio.run(fleet.upgraded(postgres.url("upgraded")))
    return "upgraded"


@pytest.fixture
def simulators(data_folder):
    """Simulators of the test's own: their ledger holds nothing else, and waits for no disk."""
    with sendrig.simulating(data_folder) as running:
        yield running


FIGURES = pytest.StashKey[list]()


def pytest_configure(config):
    """What tests saw is told together at the end."""
    config.stash[FIGURES] = []


@pytest.fixture
def figure(request):
    """Keeps a figure for the table at the end, under the test's sentence."""

    def say(name, value):
        said = f"{value:.3g}" if isinstance(value, float) else str(value)
        request.config.stash[FIGURES].append((request.node.originalname, name, said))

    return say


def pytest_terminal_summary(terminalreporter, config):
    """The table that docs/faults.md keeps."""
    if not config.stash[FIGURES]:
        return
    terminalreporter.write_sep("=", "figures")
    terminalreporter.write_line("| what | figure | seen |")
    terminalreporter.write_line("|---|---|---|")
    before = None
    for test, name, said in config.stash[FIGURES]:
        sentence = test.removeprefix("test_").replace("_", " ") if test != before else ""
        terminalreporter.write_line(f"| {sentence} | {name} | {said} |")
        before = test


@pytest.fixture
async def fleet_of(postgres_url, simulators, tmp_path):
    """Brings up fleets of so many workers; all is ended at the test's end."""
    async with AsyncExitStack() as stack:

        async def brought_up(workers=4, **options):
            return await stack.enter_async_context(
                fleet.brought_up(postgres_url, tmp_path, simulators, workers, **options)
            )

        yield brought_up
