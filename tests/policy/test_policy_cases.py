"""Worked cases of our own: every kind and every shipped pack, both sides of each edge."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from second_reading import Drawn, differences

from gateway.policy.check import decide_case, parse_cases

FILES = sorted((Path(__file__).parent / "cases").glob("*.json"))
CASES = [(file.stem, case) for file in FILES for case in parse_cases(file.read_bytes())]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("file", "case"), CASES, ids=[f"{file}-{case.id}" for file, case in CASES])
def test_a_worked_case_is_decided_as_it_says(file, case):
    result = decide_case(case)

    assert result.ok, (case.title, result.as_json())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_witness_agrees_with_the_worked_cases(file):
    for case in parse_cases(file.read_bytes()):
        assert list(differences(Drawn(case), Random(case.id))) == [], case.id


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns", "Asia/Kolkata"])
def test_the_host_time_zone_changes_nothing(zone):
    file = Path(__file__).parent / "cases" / "windows.json"
    command = [
        sys.executable,
        "-c",
        "from gateway.cli import main; main()",
        "policy",
        "check",
        str(file),
        "--json",
    ]
    told = subprocess.run(command, cwd=ROOT, env={**os.environ, "TZ": zone}, capture_output=True, check=True)

    assert json.loads(told.stdout) == [
        decide_case(case).as_json() for name, case in CASES if name == "windows"
    ]
