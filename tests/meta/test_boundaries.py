"""Imports point one way, and each library has one home."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from house import ROOT, text, tracked

HOMES = {
    "aiosmtplib": ["channels"],
    "arq": ["gateway/wake.py"],
    "fastapi": ["gateway/api", "gateway/console"],
    "sqlalchemy": [
        "gateway/store",
        "gateway/wiring.py",
        "gateway/settings.py",
        "gateway/pools.py",
        "gateway/vault.py",
        "gateway/vault",
    ],
    "starlette": ["gateway/api", "gateway/console"],
    "twilio": ["channels"],
    "uvicorn": ["gateway/api", "gateway/embedded.py", "gateway/cli"],
}
"""Library → where it may be imported."""
PURE = ["gateway/policy", "gateway/sendlog", "gateway/domain.py", "gateway/masking.py", "gateway/outcomes.py"]
IMPURE = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uuid",
}
CLOCKS = {"now", "today", "utcnow"}
CLIENT_MAY = {"httpx2", "gateway_client"}


def under(path, places):
    return any(path == Path(place) or Path(place) in path.parents for place in places)


def sources(*places):
    return [path for path in tracked() if path.suffix == ".py" and under(path, places)]


@cache
def imports(path):
    """The top names of everything a file imports; each file is read once."""
    found = set()
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return frozenset(found)


@pytest.mark.parametrize("library", HOMES)
def test_a_library_stays_in_its_home(library):
    homes = HOMES[library]
    strangers = [str(path) for path in sources("gateway", "channels") if not under(path, homes)]

    assert [path for path in strangers if library in imports(path)] == []


def test_the_pure_parts_touch_neither_clock_nor_world():
    touched = [(str(path), name) for path in sources(*PURE) for name in imports(path) if name in IMPURE]
    read = [
        (str(path), node.attr)
        for path in sources(*PURE)
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS
    ]

    assert touched == []
    assert read == []


def test_the_client_needs_nothing_of_the_server():
    known = CLIENT_MAY | sys.stdlib_module_names
    files = sources("clients/python/gateway_client")

    assert files
    assert {name for path in files for name in imports(path)} - known == set()


def test_the_import_contracts_hold():
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stdout
