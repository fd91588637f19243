"""The commands that the pages name exist, and set-up says what it lacks."""

import os
import re
import shutil
import subprocess

import pytest
from house import ROOT, pages, text

from gateway.cli import COMMANDS

TARGETS = re.findall(r"^([a-z]+):.*## ", text("Makefile"), re.MULTILINE)


def run(*command, **more):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **more)


def code(page):
    """What a page shows as code, in lines or in sentences."""
    content = text(page)
    fenced = re.findall(r"^```\w*\n(.*?)^```", content, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in fenced for line in block.splitlines()] + re.findall(
        r"`([^`\n]+)`", content
    )


def test_help_is_the_default_and_lists_every_target_once():
    shown = re.findall(r"^  make (\w+) ", run("make").stdout, re.MULTILINE)

    assert shown == TARGETS
    assert {"demo", "test", "check", "lock", "wheel"} <= set(shown)


def test_every_make_command_on_a_page_exists():
    named = {
        (str(page), target)
        for page in pages()
        for line in code(page)
        for target in re.findall(r"^make (?:[A-Z]+=\S* )*([a-z]+)", line)
    }

    assert ("README.md", "demo") in named
    assert ("README.md", "test") in named
    assert [where for where in named if where[1] not in TARGETS] == []


def test_the_gate_runs_all_the_tests_and_nothing_weaker():
    lines = [line for line in text(".ci/run").splitlines() if line and not line.startswith("#")]

    assert lines == ["set -euo pipefail", 'cd "$(dirname "${BASH_SOURCE[0]}")/.."', "make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_make_test_checks_and_tests():
    plan = run("make", "--dry-run", "test", "VENV=.").stdout

    for command in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest -n 2"):
        assert command in plan


@pytest.mark.parametrize("python", ["/no/such/python3", "false"])
def test_a_python_that_will_not_do_is_told_before_anything_is_made(tmp_path, python):
    ended = run("sh", "requirements/setup.sh", str(tmp_path / "v"), "dev", python)

    assert ended.returncode == 2
    assert "Python 3.11 or newer" in ended.stderr
    assert python in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_any_python_the_way_out_is_shown(tmp_path):
    for tool in ("cat", "date", "touch"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    ended = run("/bin/sh", "requirements/setup.sh", str(tmp_path / "v"), "dev", env={"PATH": str(tmp_path)})

    assert ended.returncode == 2
    assert "make PYTHON=/path/to/python3" in ended.stderr
    assert not (tmp_path / "v").exists()


def test_every_gateway_command_on_a_page_exists():
    named = {
        (str(page), word)
        for page in pages()
        for line in code(page)
        for word in re.findall(r"^(?:docker compose run --rm )?(?:gateway|tool) ([a-z]+)\b", line)
    }

    assert [where for where in sorted(named) if where[1] not in COMMANDS] == []
