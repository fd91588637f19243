"""A worker's journal: every call noted before it is made, readable after any death, and not kept for ever."""

import os
from types import SimpleNamespace

import orjson
import pytest

from gateway.errors import SetupError
from gateway.store import journal

ROW = dict.fromkeys(journal._ROW) | {"ref": "at_1"}
LINE = orjson.dumps({"at": 1, "key": "k-1", "step": 0, "attempt": ROW}) + b"\n"


def written(folder, *lines, name="ow_1.100.jsonl"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"".join(lines))
    return [folder]


def refs(folders):
    return [noted.attempt["ref"] for noted in journal.read(folders)]


def test_a_line_that_was_being_written_at_a_death_is_left_out(tmp_path):
    assert refs(written(tmp_path, LINE, LINE[:-9])) == ["at_1"]


@pytest.mark.parametrize("wrong", [b"{\n", b"[]\n", b'{"at": 1}\n', LINE.replace(b"fence", b"fense")])
def test_a_file_that_is_no_journal_is_named(tmp_path, wrong):
    with pytest.raises(SetupError, match=r"ow_1\.100\.jsonl"):
        refs(written(tmp_path, wrong, LINE))


def test_workers_are_known_by_their_files_even_empty_ones(tmp_path):
    written(tmp_path, name="ow_2.100.jsonl")
    assert journal.owners(written(tmp_path, LINE)) == {"ow_1", "ow_2"}


def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SetupError, match="GATEWAY_JOURNAL"):
        journal.Journal(tmp_path / "file", "ow_1", lambda: 0.0)


def test_a_journal_is_its_users_alone_and_what_is_old_goes_when_another_file_begins(tmp_path):
    clock = SimpleNamespace(now=1000.0)
    kept = journal.Journal(tmp_path / "journal", "ow_1", lambda: clock.now)
    kept._write(LINE)
    (first,) = (tmp_path / "journal").iterdir()
    os.utime(first, (1000, 1000))

    clock.now += journal.KEPT_S + 1
    kept._write(LINE)
    kept.close()

    (second,) = (tmp_path / "journal").iterdir()
    assert second != first
    assert (second.stat().st_mode & 0o777, second.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert refs([tmp_path / "journal"]) == ["at_1"]


def test_half_a_line_does_not_stay_when_the_disk_is_full(tmp_path, monkeypatch):
    kept = journal.Journal(tmp_path / "journal", "ow_1", lambda: 0.0)
    kept._write(LINE)
    write = os.write

    def full(file, lines):
        write(file, lines[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        kept._write(LINE)
    monkeypatch.undo()
    kept._write(LINE)
    kept.close()

    assert refs([tmp_path / "journal"]) == ["at_1", "at_1"]


def test_a_file_that_cannot_be_begun_leaves_the_one_before_in_use(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    kept = journal.Journal(tmp_path / "journal", "ow_1", lambda: clock.now)
    clock.now += journal.FILE_S + 1

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_words: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        with pytest.raises(OSError, match="Too many"):
            kept._write(LINE)
    kept._write(LINE)
    kept.close()

    assert refs([tmp_path / "journal"]) == ["at_1"]
