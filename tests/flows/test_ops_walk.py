"""docs/ops.md as a person on duty follows it: every command runs under load, and prints what the page shows."""

import re
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timedelta

import cli_rig
import httpx2
import pytest
import sendrig
from cli_rig import ran
from makers import reminder

PAGE = (cli_rig.ROOT / "docs/ops.md").read_text("utf-8")
STEPS = re.findall(r"^```sh\n(.*?)^```(?:\n```text\n(.*?)^```)?", PAGE, re.MULTILINE | re.DOTALL)
LOAD = 400


@pytest.fixture(scope="module")
def duty(tmp_path_factory):
    """A gateway in the middle of its work: the address, and the key of a second holder."""
    folder = tmp_path_factory.mktemp("ops")
    with (
        pytest.MonkeyPatch.context() as patch,
        sendrig.simulating(folder) as simulators,
        up(folder, simulators) as (url, key, data),
        httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}) as http,
    ):
        patch.setenv("GATEWAY_DATA", str(data))
        second = ran("apikey", "create", "--tenant", "*", "--role", "admin", "--holder", "duty-lead")
        ran("quota", "set", "sms-cn", "channel=sms", "account=sms-cn", "rate=5", "--reason", "as agreed")
        to_the_morning(http)
        load(http)
        soon(lambda: "pace by redis" in ran("top", "--once").stdout and simulators.ledger())
        yield url, second.stdout.strip()


@contextmanager
def up(folder, simulators):
    """`gateway up` with live accounts on the simulators, as demo and deployments have them."""
    accounts, port = folder / "accounts.toml", sendrig.free_port()
    accounts.write_text(simulators.accounts(tenant="default"))
    words = ("up", "--data", folder / "data", "--listen", f"127.0.0.1:{port}", "--accounts", accounts)
    with subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli import main; main()", *words, "--policy-offset-allowed"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=cli_rig.environment(**sendrig.ENVIRONMENT),
    ) as child:
        said = ""
        for line in child.stdout:
            said += line
            if line.startswith("ready"):
                break
        try:
            yield f"http://127.0.0.1:{port}", re.search(r"first live key .*: (\S+)", said)[1], folder / "data"
        finally:
            child.terminate()
            child.wait(20)


def to_the_morning(http):
    """10:00 in Shanghai, of the next day."""
    now = datetime.fromisoformat(http.get("/v1/clock").json()["policy"])
    morning = now.replace(hour=2, minute=0, second=0) + timedelta(days=1)
    http.post("/v1/clock", json={"advance_s": round((morning - now).total_seconds())})


def soon(true, patience_s=30):
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def load(http):
    items = [reminder(n, channels=["sms"]) for n in range(LOAD)]
    for item in items:
        item["debt"]["due_date"] = "2099-12-31"
    answer = http.post("/v1/reminders/batch", json={"items": items}).json()
    assert {result["status"] for result in answer["results"]} == {202}


def as_shown(shown):
    """A page's text as a pattern: … is whatever stands there, and blanks are of any width."""
    return r"\s*".join(map(re.escape, shown.split())).replace("…", r"[\s\S]*?")


def test_every_command_of_the_walk_prints_what_the_page_shows(duty, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where the picture is drawn
    url, second = duty
    id_, done = "", 0
    for block, shown in STEPS:
        said = ""
        for line in block.replace("ps_…", id_).replace("http://127.0.0.1:8080", url).splitlines():
            command, _, _ = line.partition("  #")
            if command.strip() != "gateway top":  # it ends with Ctrl-C
                said += run(command, second, monkeypatch)
                done += 1
        id_ = (re.findall(r"ps_[0-9A-Z]{26}", said) or [id_])[0]
        assert re.fullmatch(as_shown(shown), said.strip()), f"{block}\n{said}"
    assert done >= 14
    assert "<svg" in (tmp_path / "plan.svg").read_text("utf-8")


def run(command, key, monkeypatch):
    """What a line of the page prints; with a key before it, it is the second holder's, elsewhere."""
    before, _, words = command.rpartition("gateway ")
    with monkeypatch.context() as patch:
        if before:
            patch.setenv("GATEWAY_API_KEY", key)
            patch.delenv("GATEWAY_DATA")
        ended = ran(*shlex.split(words))
    assert (ended.returncode, ended.stderr) == (0, ""), command
    return ended.stdout
