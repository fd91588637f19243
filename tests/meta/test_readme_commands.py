"""The engineer's first ten minutes, run as README.md says, against a gateway that is up."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from house import ROOT, text

READY_S = 20
SETTLE_S = 5
ADDRESS = "127.0.0.1:8080"
ROLE = "### You write a service that sends reminders"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the README's commands are curl's")


def section(page, heading):
    """What stands under a heading, up to the next of its level or above."""
    level = len(heading.split()[0])
    return re.split(rf"^#{{2,{level}}} ", text(page).split(f"\n{heading}\n")[1], flags=re.MULTILINE)[0]


def calls(page, heading=ROLE):
    """The lines of a section that call the API, as they stand there."""
    blocks = re.findall(r"^```sh\n(.*?)^```", section(page, heading), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if "curl " in line]


def start(page):
    """How the page starts a gateway."""
    [line] = [line for line in text(page).splitlines() if line.startswith("gateway up ")]
    return line.split()[1:]


@contextmanager
def up(page, data):
    """That gateway with a folder of its own on a free port; its address and the test key that it prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    program = [sys.executable, "-c", "from gateway.cli import main; main()", *start(page)]
    process = subprocess.Popen(
        [*program, "--data", str(data), "--listen", address],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        with process.stdout:
            yield address, first_key(process.stdout)
    finally:
        process.terminate()
        process.wait(READY_S)


def first_key(stdout):
    key = None
    for line in stdout:
        if line.startswith("first test key"):
            key = line.split()[-1]
        if line.startswith("ready "):
            return key
    return pytest.fail("the gateway did not start")


class Shell:
    """One shell for all lines of the page, as a reader has it."""

    def __init__(self, address, key):
        self._address = address
        self._known = {"AUTH": f"Authorization: Bearer {key}", "ID": ""}

    def run(self, line):
        """What a line prints; `ID` is kept for those after it."""
        script = line.replace(ADDRESS, self._address) + '\nprintf "\\n%s" "$ID" >&3'
        kept, ours = os.pipe()
        ended = subprocess.run(
            ["bash", "-c", f"exec 3>&{ours}\n{script}"],
            cwd=ROOT,
            env={**os.environ, **self._known, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            pass_fds=[ours],
            timeout=SETTLE_S,
            check=True,
        )
        os.close(ours)
        with os.fdopen(kept) as stream:
            self._known["ID"] = stream.read().strip()
        assert '"request_id"' not in ended.stdout, f"{line}\n{ended.stdout}"
        return ended.stdout

    def until(self, line, wanted):
        """What a line prints once its answer is as wanted."""
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            said = self.run(line)
            if wanted(json.loads(said)):
                return json.loads(said)
            time.sleep(0.1)
        return pytest.fail(f"{line} came to {said}")


def settled(reminder):
    return reminder["state"] not in {"waiting", "sending", "sent"}


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Every answer of the section, by the line that asked; the night passes only where it is night."""
    with up("README.md", tmp_path_factory.mktemp("first use") / "data") as (address, key):
        shell, told, deferred = Shell(address, key), [], False
        for line in calls("README.md"):
            if "/clock" in line and not deferred:
                continue
            if line.endswith("/reminders/$ID | python -m json.tool"):
                wanted = settled if not deferred else (lambda r: r["state"] != "deferred" and settled(r))
                told.append((line, shell.until(line, wanted)))
                deferred = told[-1][1]["state"] == "deferred"
            elif "state=" in line:
                told.append((line, shell.until(line, lambda page: page["items"])))
            else:
                told.append((line, shell.run(line)))
        return told


def answers(story, part):
    return [answer for line, answer in story if part in line]


def test_the_preview_says_what_would_be_decided(story):
    [answer] = answers(story, "/preview")

    assert json.loads(answer)["decision"]["action"] in {"send", "defer"}


def test_the_same_key_gives_the_same_answer_and_the_reminder_arrives_once(story):
    first, _ = answers(story, "-d @examples/reminder.json")[1:]
    last = answers(story, "/reminders/$ID |")[-1]

    assert json.loads(first)["state"] == "waiting"
    assert last["id"] == json.loads(first)["id"]
    assert (last["state"], last["channel"], len(last["attempts"])) == ("delivered", "sms", 1)


def test_the_explanation_names_rules_and_sources(story):
    [said] = answers(story, "/explain")

    assert "CN.GBT.HOURS" in said
    assert "GB/T 45251-2025" in said
    assert "OP.CAPS.DAY" in said


def test_what_waits_for_a_human_is_stopped_by_a_payment(story):
    [waits] = answers(story, "state=deferred")
    [paid] = answers(story, '"type": "paid"')
    [spared] = answers(story, "state=suppressed")

    assert [r["reason"] for r in waits["items"]] == ["debt_hardship"]
    assert json.loads(paid)["stopped"] == [waits["items"][0]["id"]]
    assert [r["reason"] for r in spared["items"]] == ["debt_paid"]


def test_the_section_is_about_curl_and_holds_no_key():
    assert len(calls("README.md")) >= 10
    assert [line for line in calls("README.md") if "gw_" in line] == []


def commands(page):
    """Every command that a page shows, without what is said beside it."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+# .*", "", line) for block in blocks for line in block.splitlines()]


def test_the_chinese_page_shows_the_same_commands():
    assert commands("README.zh-CN.md") == commands("README.md")
