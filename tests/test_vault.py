"""The key ring, sealed fields, the blind index and the vault, over SQLite and a real PostgreSQL."""

import asyncio
import copy
import json
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, text

from gateway import cli
from gateway.domain import Tenant
from gateway.errors import SetupError, Unavailable
from gateway.masking import Pii
from gateway.settings import database_url, file_url
from gateway.vault import TENANT_KEY, BlindIndex, DataKey, KeyRing, KeyUse, Vault, embedded_ring
from gateway.vault.ring import add_key

ACME, OTHER = Tenant("acme/live"), Tenant("acme/test")
PLACE = {"table": "address", "column": "value_enc", "row": "a-1"}
KEY = DataKey(bytes(32), ACME, os.urandom)
ROOT = Path(__file__).parent.parent


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ring.json"


@pytest.fixture
def ring(path):
    return KeyRing.create(path)


# The key ring.


def test_a_key_ring_is_made_for_its_owner_alone(ring, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyRing.load(path).derive(KeyUse.BLIND_INDEX) == ring.derive(KeyUse.BLIND_INDEX)


def test_a_key_ring_is_never_overwritten(ring, path):
    before = path.read_bytes()

    with pytest.raises(SetupError, match="never overwritten"):
        KeyRing.create(path)

    assert path.read_bytes() == before


def test_a_ring_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    with pytest.raises(SetupError, match="give another place"):
        KeyRing.create(tmp_path / "no" / "ring.json")


def test_a_full_disk_leaves_no_half_written_ring(tmp_path):
    program = (
        "import resource, signal, sys; from pathlib import Path; from gateway.vault import KeyRing\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "KeyRing.create(Path(sys.argv[1]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "ring.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "SetupError" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_ring_says_how_to_get_one(path):
    with pytest.raises(SetupError, match="gateway vault init"):
        KeyRing.load(path)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o610, 0o644, 0o666])
def test_a_ring_that_others_may_read_or_change_is_refused(ring, path, mode):
    path.chmod(mode)

    with pytest.raises(SetupError, match="chmod 600"):
        KeyRing.load(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_a_ring_may_be_read_by_its_owner_and_group(ring, path, mode):
    path.chmod(mode)

    KeyRing.load(path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.clear(),
        lambda d: d.update(format=2),
        lambda d: d.update(current="k9"),
        lambda d: d.update(root="short"),
        lambda d: d.update(root=None),
        lambda d: d.update(keys=[]),
        lambda d: d["keys"].update(k1="AAAA"),
        lambda d: d["keys"].update(k1="!" * 44),
    ],
)
def test_a_damaged_ring_is_refused_without_saying_what_is_in_it(ring, path, spoil):
    document = json.loads(path.read_bytes())
    secrets = [document["root"], *document["keys"].values()]
    spoil(document)
    path.write_text(json.dumps(document))

    with pytest.raises(SetupError, match="bring it back from its backup") as refused:
        KeyRing.load(path)

    assert not any(secret in str(refused.value) for secret in secrets)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', "x" * 100_000])
def test_a_file_that_is_no_ring_is_refused(path, content):
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(SetupError, match="bring it back from its backup"):
        KeyRing.load(path)


def test_derived_keys_are_pinned_and_differ_by_use(path):
    ring = KeyRing(path, root=bytes(range(32)), keys={"k1": bytes(32)}, current="k1")

    keys = {use: ring.derive(use) for use in KeyUse}

    assert (
        keys[KeyUse.BLIND_INDEX].hex() == "514f0820fff4856c7f2aab5159d28f55d7ef05e36fe3b064d90f747c0302feb0"
    )
    assert (
        keys[KeyUse.LOG_PSEUDONYM].hex() == "79a3e44a7a6eb86f88a1079fb5b4e1f50bbf61b30fbae08b4100c434baa3e27e"
    )
    assert len(set(keys.values())) == len(KeyUse)


def test_a_new_key_leaves_the_rest_of_the_ring_as_it_was(ring, path):
    wrapped = ring.wrap(b"d" * 32, "acme\0B-1", bytes(12))

    rotated = add_key(path)

    assert (ring.current, rotated.current) == ("k1", "k2")
    assert rotated.unwrap("k1", wrapped, "acme\0B-1") == b"d" * 32
    assert rotated.derive(KeyUse.BLIND_INDEX) == ring.derive(KeyUse.BLIND_INDEX)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_two_rotations_at_once_are_one_too_many(ring, path):
    path.with_name("ring.json.new").touch()
    before = path.read_bytes()

    with pytest.raises(SetupError, match="another rotation"):
        add_key(path)

    assert path.read_bytes() == before


def test_a_data_key_opens_only_under_its_ring_key_and_borrower(ring, tmp_path):
    wrapped = ring.wrap(b"d" * 32, "acme\0B-1", bytes(12))

    assert ring.unwrap("k1", wrapped, "acme\0B-1") == b"d" * 32
    for kid, opener, about in (
        ("k1", ring, "acme\0B-2"),
        ("k9", ring, "acme\0B-1"),
        ("k1", KeyRing.create(tmp_path / "other.json"), "acme\0B-1"),
    ):
        with pytest.raises(SetupError, match="not the one that wrapped it"):
            opener.unwrap(kid, wrapped, about)


def test_the_embedded_ring_is_made_once_and_never_replaced(tmp_path):
    path, vault = tmp_path / "ring.json", tmp_path / "vault.db"
    made = embedded_ring(path, vault)
    vault.touch()
    again = embedded_ring(path, vault)
    path.unlink()

    assert again.derive(KeyUse.FINGERPRINT) == made.derive(KeyUse.FINGERPRINT)
    with pytest.raises(SetupError, match="bring it back"):
        embedded_ring(path, vault)
    assert not path.exists()


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_keys_are_not_pickled_or_copied_and_print_nothing(ring, take):
    for secret in (ring, KEY):
        with pytest.raises(TypeError, match="pickle or a copy"):
            take(secret)
        assert repr(secret).startswith("<gateway.vault.")


# Sealed fields.


@given(st.binary(max_size=300), st.text(max_size=20), st.text(max_size=20))
def test_what_is_sealed_opens_in_its_place(clear, table, row):
    sealed = KEY.seal(clear, table=table, column="c", row=row)

    assert KEY.open(sealed, table=table, column="c", row=row) == clear
    assert len(sealed) == len(clear) + 29


def test_the_form_of_a_sealed_value_is_pinned():
    key = DataKey(bytes(range(32)), ACME, bytes)

    assert (
        key.seal(b"+8613812341234", **PLACE).hex()
        == "01000000000000000000000000258483ef8614b28f3b9c98072b183ecf47ffe9d9d94f8fec7eaaacbaeeb2"
    )


def test_the_same_value_sealed_twice_does_not_look_alike():
    assert KEY.seal(b"x", **PLACE) != KEY.seal(b"x", **PLACE)


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"table": "borrower"},
        {"column": "name_enc"},
        {"row": "a-2"},
        {"table": "addres", "column": "svalue_enc"},
    ],
)
def test_a_sealed_value_opens_in_no_other_place(elsewhere):
    sealed = KEY.seal(b"x", **PLACE)

    with pytest.raises(SetupError, match="does not open"):
        KEY.open(sealed, **{**PLACE, **elsewhere})


@pytest.mark.parametrize("key", [DataKey(bytes(32), OTHER, os.urandom), DataKey(b"1" * 32, ACME, os.urandom)])
def test_a_sealed_value_opens_under_no_other_key_or_tenant(key):
    with pytest.raises(SetupError, match="does not open"):
        key.open(KEY.seal(b"x", **PLACE), **PLACE)


@given(st.integers(8, 8 * 34 - 1))
def test_a_changed_bit_is_seen(bit):
    sealed = bytearray(KEY.seal(b"12345", **PLACE))
    sealed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(SetupError, match="does not open"):
        KEY.open(bytes(sealed), **PLACE)


@pytest.mark.parametrize("cut", [0, 1, 5, 13, 28])
def test_a_cut_value_is_refused(cut):
    with pytest.raises(SetupError):
        KEY.open(KEY.seal(b"", **PLACE)[:cut], **PLACE)


def test_a_form_of_a_later_release_is_said_to_be_one():
    with pytest.raises(SetupError, match="install a newer one"):
        KEY.open(b"\x02" + KEY.seal(b"x", **PLACE)[1:], **PLACE)


def test_the_blind_index_finds_and_tells_nothing(path):
    ring = KeyRing(path, root=bytes(range(32)), keys={"k1": bytes(32)}, current="k1")
    index = BlindIndex(ring)

    assert index.blind("phone", "+8613812341234").hex() == "ae34d2a464836955d935d685fca2154e"
    assert index.blind("phone", "+8613812341234") != index.blind("phone", "+8613812341235")
    assert index.blind("phone", "1") != index.blind("national_id", "1")


# The vault, over both stores.


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return file_url(tmp_path / "vault.db")
    server = request.getfixturevalue("postgres")
    name = f"v{time.time_ns()}"
    asyncio.run(server.say(f"CREATE DATABASE {name}"))
    return database_url(server.url(name))


class Clock:
    def __init__(self):
        self.now = 1_795_467_890.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def vault(url, ring, clock):
    vault = Vault(url, ring, clock=clock)
    await vault.prepare()
    yield vault
    await vault.aclose()


async def test_a_key_once_made_is_the_same_for_ever(vault, url, ring):
    made = await vault.keys_for(ACME, ["B-1", "B-2", "B-1"], create=True)
    sealed = {name: key.seal(name.encode(), **PLACE) for name, key in made.items()}
    await vault.aclose()

    later = Vault(url, ring)
    found = await later.keys_for(ACME, ["B-1", "B-2"], create=True)
    await later.aclose()

    opened = {name: found[name].open(value, **PLACE) for name, value in sealed.items()}
    assert opened == {
        "B-1": b"B-1",
        "B-2": b"B-2",
    }
    with pytest.raises(SetupError):
        found["B-1"].open(sealed["B-2"], **PLACE)


async def test_who_has_no_key_is_left_out(vault):
    await vault.keys_for(ACME, ["B-1"], create=True)

    assert (await vault.keys_for(ACME, ["B-1", "B-2"], create=False)).keys() == {"B-1"}
    assert await vault.keys_for(OTHER, ["B-1"], create=False) == {}
    assert await vault.keys_for(ACME, [], create=True) == {}


async def test_a_large_batch_is_one_commit(vault):
    names = [f"B-{n}" for n in range(1203)]
    commits = []
    event.listen(vault._engine.sync_engine, "commit", commits.append)

    made = await vault.keys_for(ACME, names, create=True)

    assert made.keys() == set(names)
    assert len(commits) == 1
    assert (await vault.keys_for(ACME, names, create=False)).keys() == made.keys()


async def test_two_who_make_one_key_at_once_get_the_same(vault):
    several = await asyncio.gather(*(vault.keys_for(ACME, ["B-1"], create=True) for _ in range(8)))

    sealed = several[0]["B-1"].seal(b"x", **PLACE)
    assert {keys["B-1"].open(sealed, **PLACE) for keys in several} == {b"x"}


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_two_processes_that_make_one_key_at_once_get_the_same(vault, url, ring):
    others = [Vault(url, ring) for _ in range(4)]
    several = await asyncio.gather(*(v.keys_for(ACME, ["B-1", "B-2"], create=True) for v in others))
    for other in others:
        await other.aclose()

    sealed = several[0]["B-1"].seal(b"x", **PLACE)
    assert {keys["B-1"].open(sealed, **PLACE) for keys in several} == {b"x"}


async def test_an_erased_borrower_opens_no_more(vault):
    keys = await vault.keys_for(ACME, ["B-1", "B-2"], create=True)
    sealed = keys["B-1"].seal(b"x", **PLACE)

    assert await vault.destroy(ACME, "B-1") is True
    assert await vault.destroy(ACME, "B-1") is False

    assert (await vault.keys_for(ACME, ["B-1", "B-2"], create=False)).keys() == {"B-2"}
    anew = await vault.keys_for(ACME, ["B-1"], create=True)
    with pytest.raises(SetupError, match="does not open"):
        anew["B-1"].open(sealed, **PLACE)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("create", "seconds"), [(True, 2), (False, 60)])
async def test_a_key_erased_elsewhere_is_forgotten_in_time(vault, url, ring, clock, create, seconds):
    elsewhere = Vault(url, ring)
    old = (await vault.keys_for(ACME, ["B-1"], create=True))["B-1"]
    await elsewhere.destroy(ACME, "B-1")
    await elsewhere.aclose()

    clock.now += seconds
    assert (await vault.keys_for(ACME, ["B-1"], create=create))["B-1"] is old

    clock.now += 0.1
    assert (await vault.keys_for(ACME, ["B-1"], create=create)).get("B-1") is not old


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_an_erased_key_leaves_no_trace_in_the_file(vault, url, tmp_path):
    await vault.keys_for(ACME, [f"B-{n}" for n in range(50)], create=True)
    async with vault._begin() as conn:
        wrapped = bytes(await conn.scalar(text("SELECT wrapped FROM data_key WHERE subject = 'B-25'")))
    assert any(wrapped in file.read_bytes() for file in tmp_path.glob("vault.db*"))

    await vault.destroy(ACME, "B-25")

    assert not any(wrapped in file.read_bytes() for file in tmp_path.glob("vault.db*"))


async def test_no_key_stands_in_the_vault_in_clear(vault, ring):
    drawn = []

    def entropy(size):
        drawn.append(os.urandom(size))
        return drawn[-1]

    vault._entropy = entropy
    await vault.keys_for(ACME, ["B-1"], create=True)
    async with vault._begin() as conn:
        row = (await conn.execute(text("SELECT wrapped, kid, created_at FROM data_key"))).one()

    assert any(len(key) == 32 for key in drawn)
    assert not any(key in bytes(row.wrapped) for key in drawn if len(key) == 32)
    assert (row.kid, row.created_at) == ("k1", 1_795_467_890_000_000)


async def test_the_cache_has_a_bound(vault):
    for start in range(0, 5000, 1000):
        await vault.keys_for(ACME, [f"B-{n}" for n in range(start, start + 1000)], create=True)

    assert len(vault._cache) == 4096
    assert (ACME, "B-0") not in vault._cache
    assert (ACME, "B-4999") in vault._cache


async def test_credentials_are_kept_sealed_and_replaced(vault):
    assert await vault.credentials(ACME, "sms-cn") == {}

    await vault.keep_credentials(ACME, "sms-cn", {"id": Pii("i"), "secret": Pii("hemlig-1")})
    await vault.keep_credentials(ACME, "sms-cn", {"secret": Pii("hemlig-2")})

    assert await vault.credentials(ACME, "sms-cn") == {"secret": Pii("hemlig-2")}
    assert await vault.credentials(ACME, "other") == {}
    assert await vault.credentials(OTHER, "sms-cn") == {}
    async with vault._begin() as conn:
        assert b"hemlig" not in bytes(await conn.scalar(text("SELECT value_enc FROM secret")))
    assert (await vault.keys_for(ACME, [TENANT_KEY], create=False)).keys() == {TENANT_KEY}


async def test_preparing_twice_changes_nothing(vault, url, ring):
    sealed = (await vault.keys_for(ACME, ["B-1"], create=True))["B-1"].seal(b"x", **PLACE)

    await vault.prepare()
    await vault.check()

    vault._cache.clear()
    assert (await vault.keys_for(ACME, ["B-1"], create=False))["B-1"].open(sealed, **PLACE) == b"x"


async def test_a_vault_that_is_not_prepared_says_what_to_run(url, ring):
    vault = Vault(url, ring)
    with pytest.raises(SetupError, match="gateway db upgrade"):
        await vault.check()
    await vault.aclose()


async def test_another_ring_is_refused_at_the_start(vault, url, tmp_path):
    await vault.aclose()
    stranger = Vault(url, KeyRing.create(tmp_path / "other.json"))
    for start in (stranger.check, stranger.prepare):
        with pytest.raises(SetupError, match="not the one that this vault was made with"):
            await start()
    await stranger.aclose()


async def test_a_vault_of_another_release_is_refused(vault):
    async with vault._begin() as conn:
        await conn.execute(text("UPDATE vault SET version = 2"))

    with pytest.raises(SetupError, match="another release"):
        await vault.prepare()


async def test_rotation_wraps_every_key_anew_and_loses_none(vault, ring, path):
    names = [f"B-{n}" for n in range(25)]
    made = await vault.keys_for(ACME, names, create=True)
    await vault.keys_for(OTHER, ["B-1"], create=True)
    sealed = {name: key.seal(name.encode(), **PLACE) for name, key in made.items()}
    vault._ring = add_key(path)

    sizes = [size async for size in vault.rewrap(10)]

    assert sizes == [10, 10, 6]
    assert [size async for size in vault.rewrap(10)] == []
    async with vault._begin() as conn:
        kids = (await conn.execute(text("SELECT DISTINCT kid FROM data_key"))).scalars().all()
    assert kids == ["k2"]
    vault._cache.clear()
    found = await vault.keys_for(ACME, names, create=False)
    assert all(found[name].open(value, **PLACE) == name.encode() for name, value in sealed.items())


async def test_a_process_that_began_before_a_rotation_takes_the_new_ring_up(vault, path, url):
    sealed = (await vault.keys_for(ACME, ["B-1"], create=True))["B-1"].seal(b"x", **PLACE)
    began_before = vault._ring
    vault._ring = add_key(path)
    assert [size async for size in vault.rewrap()] == [1]

    vault._ring = began_before
    vault._cache.clear()

    assert (await vault.keys_for(ACME, ["B-1"], create=False))["B-1"].open(sealed, **PLACE) == b"x"


async def test_a_process_whose_ring_lacks_a_key_says_so(vault, path, tmp_path):
    await vault.keys_for(ACME, ["B-1"], create=True)
    old = path.read_bytes()
    vault._ring = add_key(path)
    assert [size async for size in vault.rewrap()] == [1]

    path.write_bytes(old)
    vault._ring = KeyRing.load(path)
    vault._cache.clear()

    with pytest.raises(SetupError, match="not the one that wrapped it"):
        await vault.keys_for(ACME, ["B-1"], create=False)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_second_process_on_the_file_is_turned_away(vault, url, ring, tmp_path):
    with sqlite3.connect(tmp_path / "vault.db", timeout=0) as second, pytest.raises(sqlite3.OperationalError):
        second.execute("SELECT * FROM data_key")
    second.close()


async def test_a_vault_that_is_away_is_unavailable(ring):
    vault = Vault(database_url("postgresql://gw:hemlig@127.0.0.1:1/x"), ring)

    with pytest.raises(Unavailable, match="does not answer") as away:
        await vault.keys_for(ACME, ["B-1"], create=False)

    assert "hemlig" not in str(away.value)
    await vault.aclose()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_database_that_does_not_exist_is_unavailable(url, ring):
    vault = Vault(url.set(database="none_such"), ring)

    with pytest.raises(Unavailable, match="does not answer"):
        await vault.check()
    await vault.aclose()


# The commands.


def gateway(*arguments, **environ):
    return CliRunner().invoke(
        cli.gateway, arguments, env={"GATEWAY_KEYRING": "", "GATEWAY_VAULT_URL": "", **environ}
    )


def test_init_makes_a_ring_and_no_second_one(path):
    first = gateway("vault", "init", "--keyring", str(path))
    second = gateway("vault", "init", GATEWAY_KEYRING=str(path))

    assert first.exit_code == 0
    assert "Keep a copy" in first.output
    assert isinstance(second.exception, SetupError)


def test_rotate_adds_a_key_and_wraps_anew(path, tmp_path):
    async def fill(ring):
        vault = Vault(file_url(tmp_path / "vault.db"), ring)
        await vault.prepare()
        await vault.keys_for(ACME, ["B-1", "B-2", "B-3"], create=True)
        await vault.aclose()

    asyncio.run(fill(KeyRing.create(path)))
    place = {"GATEWAY_KEYRING": str(path), "GATEWAY_VAULT_URL": f"sqlite:///{tmp_path}/vault.db"}

    rotated = gateway("vault", "rotate", **place)
    added = gateway("vault", "rotate", "--add-only", **place)
    wrapped = gateway("vault", "rewrap", **place)
    again = gateway("vault", "rewrap", **place)

    assert "3 data keys are wrapped anew under k2." in rotated.output
    assert "anew" not in added.output
    assert "3 data keys are wrapped anew under k3." in wrapped.output
    assert "0 data keys are wrapped anew under k3." in again.output
    assert {r.exit_code for r in (rotated, added, wrapped, again)} == {0}


def test_rotating_without_a_ring_says_how_to_get_one(path):
    rotated = gateway("vault", "rotate", "--keyring", str(path))

    assert isinstance(rotated.exception, SetupError)
    assert not path.exists()
