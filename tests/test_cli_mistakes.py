"""Mistakes on the command line: all at once, what may be given, and never what was."""

import pytest
from cli_rig import Shell

PHONE, MAIL = "13800138000", "zhang.san@example.com"
INSTANT = "give an instant with its offset: 2026-11-24T08:00:00+08:00"
CHANNELS = "--channel: give one of: sms, email, wechat, voice"
REASON = "--reason: it is missing: Why; it is kept in the history and the send log."
TOO_MANY = "put quotes round a value that has spaces in it"
WORDS = "answered, busy, conversation, delivered, failed, no-answer, not-sent, read, sent, voicemail"
NO_OPTION = "there is no option of that name"
SETTLE = ("unknown", "settle", "at_01", "--as", "not-sent", "--reason")


@pytest.fixture
def shell(monkeypatch, capsys, tmp_path):
    return Shell(monkeypatch, capsys, GATEWAY_DATA=tmp_path / "data")


MISTAKES = [
    ((PHONE,), ["gateway has no command of that name: see gateway --help"]),
    (("explan",), ["gateway has no command of that name: did you mean explain?"]),
    (("policy", "simulat"), ["gateway policy has no command of that name: did you mean simulate?"]),
    (("unknown", PHONE), ["gateway unknown has no command of that name: see gateway unknown --help"]),
    ((f"--{PHONE}",), [f"word 1 after gateway: {NO_OPTION}: see gateway --help"]),
    ((*SETTLE, "Zhang", "San", PHONE), [f"2 words too many: it takes REF; {TOO_MANY}"]),
    (("caps", "list", PHONE), [f"1 word too many: it takes options only; {TOO_MANY}"]),
    (("unknown", "list", "--channel", f"+86{PHONE}"), [CHANNELS]),
    (
        ("unknown", "list", *("--channel", "fax", "--limit", "0", "--from", "yesterday", "--to", PHONE)),
        [CHANNELS, f"--from: {INSTANT}", f"--to: {INSTANT}", "--limit: give a whole number from 1 to 10000"],
    ),
    (
        ("unknown", "settle", "at_01", "--as", PHONE),
        [
            f"--as: give one of: {WORDS}",
            "--reason: it is missing: How you know; it is kept in the history and the send log.",
        ],
    ),
    (
        ("log", "--from", PHONE, "--to", MAIL, "--limit", "a"),
        [f"--from: {INSTANT}", f"--to: {INSTANT}", "--limit: give a whole number from 1 to 100000"],
    ),
    (
        ("log", f"--{PHONE}", MAIL, f"-{PHONE}", "--chanel", "sms", "--limit", "a"),
        [
            f"word 1 after gateway log: {NO_OPTION}: see gateway log --help",
            f"word 3 after gateway log: {NO_OPTION}: see gateway log --help",
            f"word 4 after gateway log: {NO_OPTION}: did you mean --channel or --help?",
            "--limit: give a whole number from 1 to 100000",
        ],
    ),
    (("caps", "set", "OP.CAPS.DAY", MAIL), ["MAX: give a whole number from 0 to 1000", REASON]),
    (
        ("caps", "set", "--reson", "r", "OP.CAPS.DAY", "x"),
        [f"word 1 after gateway caps set: {NO_OPTION}: did you mean --reason?", REASON],
    ),
    (("caps", "set", "OP.CAPS.DAY", "3", "--reason"), ["--reason: give a value"]),
    (("caps", "list", f"--json={PHONE}"), ["--json: it takes no value"]),
    (
        ("caps", "set"),
        [
            "RULE: it is missing, give a value",
            "MAX: it is missing, give a whole number from 0 to 1000",
            REASON,
        ],
    ),
    (
        ("explain", "rm_1", PHONE, "--lang", PHONE),
        ["--lang: give one of: en, zh", f"1 word too many: it takes ID; {TOO_MANY}"],
    ),
    (
        ("apikey", "create", "--role", "boss", "--holder", "h", "--expires", PHONE),
        [
            "--tenant: it is missing: The key's tenant; `*` for the whole deployment.",
            "--role: give one of: service, ops, compliance, compliance-approver, admin",
            "--expires: give a date: 2027-06-30",
        ],
    ),
    (
        ("policy", "simulate", "--from", PHONE, "--cap", PHONE),
        [
            *("--from: give a date: 2026-11-24", "--cap: give RULE=NUMBER: OP.CAPS.DAY=2"),
            "--to: it is missing, give a date: 2026-11-24",
        ],
    ),
    (("worker", "--processes", PHONE), ["--processes: give a whole number from 1 to 64"]),
    (("top", "--every", PHONE), ["--every: give a number from 0.5 to 60"]),
    (
        ("quota", "unset", "q", "--version", "-1", "--reason", "r"),
        ["--version: give a whole number of at least 0"],
    ),
]


@pytest.mark.parametrize(("words", "lines"), MISTAKES, ids=[" ".join(words)[:50] for words, _ in MISTAKES])
def test_a_call_with_mistakes_is_told_all_of_them_and_nothing_that_it_gave(shell, words, lines):
    ran = shell(*words)

    assert (ran.code, ran.out) == (2, "")
    head, _, said = ran.err.partition("\n\n")
    assert head.startswith("Usage: gateway")
    assert head.endswith("--help' for help.")
    assert sorted(said.splitlines()) == sorted(lines)
    assert not any(given in ran.err for given in (PHONE, MAIL, "Zhang", "San"))


@pytest.mark.parametrize(
    ("words", "said"),
    [(("log", "--limit", "a", "--help"), "Usage: gateway log"), (("--version",), "gateway, version")],
)
def test_whoever_asks_for_help_or_the_version_gets_it_whatever_else_is_wrong(shell, words, said):
    ran = shell(*words)

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(said)


def test_a_group_without_a_command_shows_its_help(shell):
    ran = shell("caps")

    assert (ran.code, ran.out) == (2, "")
    assert "How often one person may be contacted" in ran.err


def test_a_shell_completes_behind_a_mistake(shell):
    shell.set(_GATEWAY_COMPLETE="bash_complete", COMP_WORDS="gateway log --limit a --ch", COMP_CWORD="4")

    assert shell().out == "plain,--channel\n"
