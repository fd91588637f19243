"""The folder of a deployment's own packs."""

import os

import pytest

from gateway.errors import PolicyError
from gateway.own_packs import LARGEST, MOST, read

PACK = 'id = "OWN.ONE"\n'


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def refused(folder):
    with pytest.raises(PolicyError) as told:
        read(folder)
    return [(fault.at.removeprefix(f"{folder}/"), fault.code) for fault in told.value.faults]


def test_every_toml_file_is_read_by_name_and_nothing_else(folder):
    for name in ("b.toml", "a.toml", ".hidden.toml", "README.md", "a.toml~"):
        (folder / name).write_text(f"# {name} 中\n{PACK}", encoding="utf-8")
    (folder / "more").mkdir()
    (folder / "more" / "c.toml").write_text(PACK)

    assert read(folder) == (("a.toml", f"# a.toml 中\n{PACK}"), ("b.toml", f"# b.toml 中\n{PACK}"))


def test_a_link_is_followed_as_mounted_files_are(folder):
    (folder / "..data").mkdir()
    (folder / "..data" / "a.toml").write_text(PACK)
    (folder / "a.toml").symlink_to("..data/a.toml")

    assert read(folder) == (("a.toml", PACK),)


def test_a_byte_order_mark_is_no_part_of_the_text(folder):
    (folder / "a.toml").write_text(PACK, encoding="utf-8-sig")

    assert read(folder) == (("a.toml", PACK),)


def test_a_folder_that_is_not_there_or_holds_no_pack_is_refused(folder):
    assert refused(folder) == [(str(folder), "unreadable")]
    assert refused(folder / "none") == [(str(folder / "none"), "unreadable")]


def test_every_file_that_cannot_be_used_is_named(folder):
    (folder / "a.toml").write_bytes(b"#" * (LARGEST + 1))
    (folder / "b.toml").write_bytes(b"\xff")
    (folder / "c.toml").mkdir()
    (folder / "d.toml").symlink_to("nowhere")
    (folder / "e.toml").write_text(PACK)

    assert refused(folder) == [
        ("a.toml", "too_large"),
        ("b.toml", "unreadable"),
        ("c.toml", "unreadable"),
        ("d.toml", "unreadable"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(folder):
    (folder / "a.toml").write_text(PACK)
    (folder / "a.toml").chmod(0)

    assert refused(folder) == [("a.toml", "unreadable")]


def test_files_and_bytes_may_be_as_many_as_the_bounds_say(folder):
    for number in range(MOST):
        (folder / f"{number:03}.toml").write_text("")
    (folder / "000.toml").write_bytes(b"#" * LARGEST)
    assert len(read(folder)) == MOST

    (folder / "one-more.toml").write_text("")
    assert refused(folder) == [(str(folder), "unreadable")]
