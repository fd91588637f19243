"""docs/add-a-pack.md, walked through by a machine: every file saved, every command run, every answer compared."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/add-a-pack.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```\n", PAGE, re.MULTILINE | re.DOTALL)
FILES = {"toml": "XR.toml", "json": "XR.json"}
PACKS, CASES = "project/gateway/policy/packs", "project/tests/policy/cases/packs"
WAIT_S = 30


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """The folder in which the page was followed, and for each step its commands, what is shown, what was printed."""
    home = tmp_path_factory.mktemp("a pack")
    folder, program = home / "work", home / "bin/gateway"
    for made in (program.parent, folder / PACKS, folder / CASES):
        made.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from gateway.cli import main; main()" "$@"\n')
    program.chmod(0o755)
    steps = []
    for (kind, block), (after, shown) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if kind in FILES:
            (folder / FILES[kind]).write_text(block)
        elif kind == "sh":
            steps.append((block, shown if after == "text" else "", run(block, folder, program.parent)))
    return folder, steps


def run(script, folder, programs):
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    return ended.stdout


def test_every_command_prints_what_the_page_shows(walked):
    _, steps = walked

    assert len(steps) >= 8
    for commands, shown, printed in steps:
        assert re.fullmatch(re.escape(shown).replace("…", ".*"), printed), f"{commands}\n{printed}"


def test_the_pack_and_its_cases_come_to_where_they_belong(walked):
    folder, _ = walked

    assert [path.name for path in folder.glob("project/**/XR.*")] == ["XR.toml", "XR.json"]
    assert (ROOT / PACKS.removeprefix("project/")).is_dir()
    assert (ROOT / CASES.removeprefix("project/")).is_dir()
