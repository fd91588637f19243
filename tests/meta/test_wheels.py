"""The wheels carry all that is needed and nothing else."""

import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from house import ROOT, tracked

pytest.importorskip("hatchling", reason="the wheel's builder is not installed here; make test installs it")

PACKAGES = ("gateway", "channels", "templates", "examples")


def build(folder, into):
    program = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(into)], cwd=folder, check=True, capture_output=True, text=True
    )
    return zipfile.ZipFile(into / ended.stdout.split()[-1])


def metadata(wheel):
    [name] = [name for name in wheel.namelist() if name.endswith("METADATA")]
    return HeaderParser().parsestr(wheel.read(name).decode())


def parts(wheel):
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_the_wheel_carries_every_tracked_file_of_its_packages_and_no_other(tmp_path):
    with build(ROOT, tmp_path) as wheel:
        wanted = {path.as_posix() for path in tracked() if path.parts[0] in PACKAGES}

        assert wanted - parts(wheel) == set()
        assert {Path(name).parts[0] for name in parts(wheel)} <= set(PACKAGES)
        licence = [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]
        assert licence
        assert metadata(wheel)["License-Expression"] == "Apache-2.0"


def test_the_clients_wheel_is_typed_and_needs_one_library(tmp_path):
    folder = ROOT / "clients/python"
    with build(folder, tmp_path) as wheel:
        told = metadata(wheel)

        assert "gateway_client/py.typed" in parts(wheel)
        assert {Path(name).parts[0] for name in parts(wheel)} == {"gateway_client"}
        assert [line.split(">")[0] for line in told.get_all("Requires-Dist")] == ["httpx2"]
        assert told["Name"] == "outreach-gateway-client"


def test_the_clients_licence_is_the_projects():
    assert (ROOT / "clients/python/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
