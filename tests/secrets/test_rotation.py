"""A rotation of the master key: what is sealed anew, what stays, and what old versions are worth afterwards."""

import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.broker.administration import Administration
from gateway.broker.directory import KEY_COLUMN, KEYS_TABLE, Directory, KeyUnreadable, LentKey, open_key, row_of_key
from gateway.broker.key_file import KeyFile
from gateway.broker.master_key import Keyring, Masters
from gateway.broker.rotation import Rotation
from gateway.broker.vault import LedgerKey, MasterKey, Secret, Vault
from gateway.core.directory import DirectoryRows, Tenant
from gateway.errors import BadSettings, LedgerError, MasterKeyMissing, Refused, SealBroken
from gateway.ledger.sqlite_engine import connect
from gateway.ledger.sqlite_keys import SqliteKeys
from gateway.wiring import open_administration, open_storage
from gateway.wiring.sealing import unlock
from gateway.wiring.storage import limits_of
from tests.secrets.rotating import CLOCK, TEAMS, Home, upstream_key

CONTENT = {"table": "orders", "row": "an-order", "column": "response"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).fill()


def lent(home: Home) -> dict[str, LentKey | KeyUnreadable | None]:
    with home.opened() as storage:
        rows = storage.directory.rows()
        directory = Directory(rows, storage.vault, CLOCK)
        return {team.name: directory.key_of(team.team_id) for team in rows.teams}


def opens(home: Home) -> bool:
    """Whether every team's key is lent as it was put in."""
    found = lent(home)
    return [isinstance(key, LentKey) and key.secret == Secret(upstream_key(team)) for team, key in found.items()] == [
        True, True
    ]  # fmt: skip


def test_keys_and_ledger_key_are_sealed_anew_and_everything_goes_on(home: Home) -> None:
    with home.opened() as storage:
        content = storage.vault.seal(b"a body", **CONTENT)
        mark, check = storage.vault.mac("claim-key", b"x"), storage.vault.check_value()
    before = home.sealed_keys()
    done = home.rotate()
    assert (done.before, done.version, done.keys, done.unreadable, done.held, done.wiped, done.from_master) == (
        1, 2, 2, (), (1, 2), True, False
    )  # fmt: skip
    after = home.sealed_keys()
    assert {sealed[:3] for sealed in after.values()} == {b"\x02\x00\x02"} and set(before) == set(TEAMS)
    assert all(before[team] != after[team] for team in TEAMS)
    assert opens(home)
    with home.opened() as storage:
        assert storage.vault.open(content, **CONTENT) == b"a body", "what orders hold stays as it is"
        assert storage.vault.mac("claim-key", b"x") == mark, "OfferGrid holds the marks of before"
        assert storage.vault.check_value() == check
        found = Directory(storage.directory.rows(), storage.vault, CLOCK).authenticate(home.token)
        assert isinstance(found, Tenant), "tokens go on"


def test_rotating_again_goes_on_and_old_versions_are_dropped_when_asked(home: Home) -> None:
    home.rotate()
    assert (home.rotate().version, home.versions) == (3, (1, 2, 3))
    assert (home.rotate(drop_old=True).version, home.versions) == (4, (4,))
    assert opens(home)
    assert home.rotate().version == 5


def test_a_rotation_is_in_the_audit_log_with_nothing_secret(home: Home) -> None:
    home.rotate()
    row = (
        "SELECT who || ' ' || action || ' ' || subject || ' ' || change FROM audit WHERE action = 'secrets rotate'"
    )
    said = home.ask(row)
    assert '"from":{"version":1},"to":{"version":2}' in said and '"keys":2' in said
    assert home.key_file.read_text().splitlines()[2].split()[1] not in said


def test_no_old_record_is_left_in_any_file_of_the_ledger(home: Home) -> None:
    keeper = connect(home.ledger)  # or the log is gone with the last connection, by itself
    with open_administration(home.settings) as admin:  # so that the old ones are in the log, too
        admin.add_key("one", Secret("sandbox-key-more"))
    old = [home.fact("ledger_key"), *home.sealed_keys().values()]
    assert old[-1][31:] in home.files()["ordergate.db-wal"]
    assert all(any(record[31:] in content for content in home.files().values()) for record in old)
    assert home.rotate().wiped
    assert not [name for name, content in home.files().items() for record in old if record[31:] in content]
    keeper.close()


def test_somebody_who_reads_all_the_time_holds_nothing_up_and_it_is_said(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.ledger.sqlite_keys.WIPE_TRIES", 2)
    monkeypatch.setattr("gateway.ledger.sqlite_keys.WIPE_PATIENCE_MS", 1)
    reader = connect(home.ledger)
    reader.execute("BEGIN; SELECT * FROM meta").fetchall()
    assert not home.rotate().wiped
    assert opens(home)
    reader.close()


# --- what an old master key is worth ------------------------------------------------------------------------------


def test_the_old_version_alone_opens_nothing(home: Home) -> None:
    old = home.key_file.read_bytes()
    home.rotate()
    home.key_file.write_bytes(old)
    with (
        pytest.raises(BadSettings, match="version 2 of the master key is needed, and the file holds 1"),
        home.opened(),
    ):
        pass
    only_old = Masters(KeyFile(home.key_file, CLOCK).read())
    with pytest.raises(MasterKeyMissing):
        LedgerKey.opened(home.fact("ledger_key"), only_old, ledger_id=home.fact("ledger_id"))
    # Nor as if it were the new one: the version stands in what the record is bound to.
    as_if = Masters(Keyring(MasterKey(old, version=2)))
    with pytest.raises(SealBroken):
        LedgerKey.opened(home.fact("ledger_key"), as_if, ledger_id=home.fact("ledger_id"))


def test_an_old_record_put_back_is_refused_though_its_version_is_still_in_the_file(home: Home) -> None:
    old = home.sealed_keys()
    home.rotate()
    home.ask("DROP TRIGGER keys_stand_under_the_ledgers_master_key")
    home.ask(
        "UPDATE upstream_keys SET sealed_key = ? WHERE team_id = (SELECT team_id FROM teams WHERE name = 'one')",
        old["one"],
    )
    assert 1 in home.versions
    found = lent(home)
    assert isinstance(found["one"], KeyUnreadable) and isinstance(found["two"], LentKey)


def test_an_old_record_put_back_while_a_process_runs_is_refused(home: Home) -> None:
    old = home.sealed_keys()
    with home.opened() as storage:
        rows = storage.directory.rows()
        directory = Directory(rows, storage.vault, CLOCK)
        home.rotate()
        directory.replace(storage.directory.rows())
        assert isinstance(directory.key_of(1), LentKey)
        home.ask("DROP TRIGGER keys_stand_under_the_ledgers_master_key")
        home.ask("UPDATE upstream_keys SET sealed_key = ? WHERE team_id = 1", old["one"])
        directory.replace(storage.directory.rows())
        assert isinstance(directory.key_of(1), KeyUnreadable)


def test_an_old_record_put_back_before_a_process_sees_the_rotation_is_refused(home: Home) -> None:
    """Both at one look: nothing that it has opened so far told it of the newer version."""
    old = home.sealed_keys()
    with home.opened() as storage:
        directory = Directory(storage.directory.rows(), storage.vault, CLOCK)
        home.rotate()
        home.ask("DROP TRIGGER keys_stand_under_the_ledgers_master_key")
        home.ask("UPDATE upstream_keys SET sealed_key = ? WHERE team_id = 1", old["one"])
        directory.replace(storage.directory.rows())
        assert isinstance(directory.key_of(1), KeyUnreadable)
        assert isinstance(directory.key_of(2), LentKey)


def test_a_rotation_does_not_make_an_old_record_new(home: Home) -> None:
    old = home.sealed_keys()
    home.rotate()
    home.ask("DROP TRIGGER keys_stand_under_the_ledgers_master_key")
    home.ask("UPDATE upstream_keys SET sealed_key = ? WHERE team_id = 1", old["one"])
    done = home.rotate()
    assert (done.keys, len(done.unreadable)) == (1, 1)
    assert isinstance(lent(home)["one"], KeyUnreadable)


def test_two_teams_keys_swapped_are_refused(home: Home) -> None:
    """Rows and all: the record is bound to its team as to its key id."""
    home.ask("DROP INDEX one_active_key_a_team")
    home.ask("UPDATE upstream_keys SET team_id = 3 - team_id")
    assert [type(key) for key in lent(home).values()] == [KeyUnreadable, KeyUnreadable]


def test_two_teams_ciphertexts_swapped_are_refused(home: Home) -> None:
    sealed = home.sealed_keys()
    for team_id, other in ((1, "two"), (2, "one")):
        home.ask("UPDATE upstream_keys SET sealed_key = ? WHERE team_id = ?", sealed[other], team_id)
    assert [type(key) for key in lent(home).values()] == [KeyUnreadable, KeyUnreadable]


MASTERS = Masters(Keyring(MasterKey(bytes(32)), MasterKey(b"2" * 32, version=2)))
LEDGER_KEY = LedgerKey(b"k" * 32)
VAULT = Vault(LEDGER_KEY, CLOCK, MASTERS)
KEY_PLACE = {"table": KEYS_TABLE, "row": row_of_key(1, "key-1"), "column": KEY_COLUMN}


def _content(column: str) -> tuple[bytes, Callable[[bytes], object]]:
    place = {"table": "orders", "row": "an-order", "column": column}
    return VAULT.seal(b"a body", **place), lambda spoiled: VAULT.open(spoiled, **place)


RECORDS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "key": (
        VAULT.seal_secret(Secret("sandbox-key-1"), **KEY_PLACE, version=2),
        lambda spoiled: VAULT.open_secret(spoiled, **KEY_PLACE),
    ),
    "ledger key": (
        LEDGER_KEY.sealed(MASTERS.of_version(2), ledger_id="a-ledger", clock=CLOCK),
        lambda spoiled: LedgerKey.opened(spoiled, MASTERS, ledger_id="a-ledger"),
    ),
    **{column: _content(column) for column in ("response", "answer", "idempotency_key")},
}


@settings(deadline=None)
@given(how=st.sampled_from(("cut", "cut before", "flip", "add")), at=st.integers(0, 10_000), bit=st.integers(0, 7))
@pytest.mark.parametrize("kind", RECORDS)
def test_what_was_cut_flipped_or_lengthened_is_refused(kind: str, how: str, at: int, bit: int) -> None:
    sealed, open_again = RECORDS[kind]
    at %= len(sealed)
    spoiled = {
        "cut": sealed[:at],
        "cut before": sealed[at + 1 :],
        "flip": sealed[:at] + bytes((sealed[at] ^ 1 << bit,)) + sealed[at + 1 :],
        "add": sealed + sealed[at : at + 1],
    }
    open_again(sealed)
    with pytest.raises(SealBroken):
        open_again(spoiled[how])


@given(
    one=st.tuples(st.integers(1, 30), st.text("ab/1", min_size=1, max_size=4)),
    other=st.tuples(st.integers(1, 30), st.text("ab/1", min_size=1, max_size=4)),
)
def test_a_key_opens_for_no_other_team_and_under_no_other_id(one: tuple[int, str], other: tuple[int, str]) -> None:
    def place(team_id: int, key_id: str) -> dict[str, str]:
        return {"table": KEYS_TABLE, "row": row_of_key(team_id, key_id), "column": KEY_COLUMN}

    sealed = VAULT.seal_secret(Secret("sandbox-key"), **place(*one), version=2)
    if one == other:
        VAULT.open_secret(sealed, **place(*other))
    else:
        with pytest.raises(SealBroken):
            VAULT.open_secret(sealed, **place(*other))


def test_every_kind_of_record_cut_at_every_length_is_refused() -> None:
    for sealed, open_again in RECORDS.values():
        for length in range(len(sealed)):
            with pytest.raises(SealBroken):
                open_again(sealed[:length])


def test_two_orders_contents_swapped_are_refused() -> None:
    for column in ("response", "answer", "idempotency_key"):
        sealed = VAULT.seal(b"a body", table="orders", row="one", column=column)
        with pytest.raises(SealBroken):
            VAULT.open(sealed, table="orders", row="other", column=column)


def test_one_ledgers_key_record_is_no_other_ledgers(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.folder.mkdir()
    (other.folder / "var").mkdir(mode=0o700)
    other.key_file.write_bytes(home.key_file.read_bytes())
    other.key_file.chmod(0o600)
    other.fill()
    home.ask("UPDATE meta SET value = ? WHERE name = 'ledger_key'", other.fact("ledger_key"))
    with pytest.raises(BadSettings, match="another master key"), home.opened():
        pass


def test_another_process_that_seals_under_the_old_version_is_refused_by_the_ledger(home: Home) -> None:
    """It read the version before the rotation and writes after it: nothing may be written that nobody can open."""
    with home.opened() as storage:
        rows = storage.directory.rows()
        home.rotate()
        place = {"table": KEYS_TABLE, "row": row_of_key(1, "key-late"), "column": KEY_COLUMN}
        sealed = storage.vault.seal_secret(Secret("sandbox-key-late"), **place, version=rows.master_version)
        with pytest.raises(LedgerError, match="not sealed under the version"), storage.directory.change():
            storage.directory.put_sealed_key(rows.keys[0].key_id, sealed)
        admin = Administration(storage.directory, storage.vault, CLOCK, who="ops")
        late = admin.add_key("one", Secret("sandbox-key-late"))
        assert late.sealed_key[:3] == b"\x02\x00\x02", "asked in the transaction, it is under the ledger's"
        assert isinstance(open_key(late, storage.vault, limits_of(home.settings)), LentKey)


# --- a process that runs meanwhile --------------------------------------------------------------------------------


def test_a_running_process_follows_and_one_that_cannot_keeps_what_it_has_opened(home: Home) -> None:
    with home.opened() as storage:
        directory = Directory(storage.directory.rows(), storage.vault, CLOCK)
        home.rotate(drop_old=True)
        whole = home.key_file.read_bytes()
        home.key_file.rename(home.key_file.with_name("away"))
        directory.replace(storage.directory.rows())
        assert directory.snapshot.behind is not None and "is not there" in directory.snapshot.behind
        assert isinstance(directory.key_of(1), LentKey), "it was opened before"
        home.key_file.with_name("away").rename(home.key_file)
        directory.replace(storage.directory.rows())
        assert not directory.snapshot.behind
        assert isinstance(directory.key_of(1), LentKey)
        assert home.key_file.read_bytes() == whole


def test_a_key_that_it_never_opened_is_lent_by_no_process_that_is_behind(home: Home) -> None:
    with home.opened() as storage:
        rows = storage.directory.rows()
        directory = Directory(
            DirectoryRows(version=0, teams=(), keys=(), tenants=(), tokens=()), storage.vault, CLOCK
        )
        home.rotate()
        home.key_file.unlink()
        directory.replace(storage.directory.rows())
        assert isinstance(directory.key_of(rows.keys[0].team_id), KeyUnreadable)


# --- cut off ------------------------------------------------------------------------------------------------------


class Died(Exception):
    """Stands for a process that is gone."""


@pytest.mark.parametrize("at", ["put_ledger_key", "put_sealed_key", "audit_all", "wipe"])
def test_cut_off_it_is_run_again_to_its_end(home: Home, at: str) -> None:
    class Dying(SqliteKeys):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    setattr(Dying, at, die)
    store = Dying(connect(home.ledger))
    unlocked = unlock(store, home.key_file, home.fact("ledger_id"), CLOCK)
    rotation = Rotation(
        store=store, file=unlocked.file, key=unlocked.key, vault=unlocked.vault, ledger_id=home.fact("ledger_id"),
        clock=CLOCK, who="ops",
    )  # fmt: skip
    with pytest.raises(Died):
        rotation.run(drop_old=True)
    store.close()
    assert home.versions == (1, 2), "the new version is there before anything is under it"
    assert home.stands_under == (2 if at == "wipe" else 1)
    assert opens(home)
    done = home.rotate(drop_old=True)
    assert done.version == (3 if at == "wipe" else 2), "a version that was made and not used is used"
    assert home.versions == (done.version,)
    assert opens(home)


def test_a_key_that_could_not_be_opened_is_named_and_stays_so(home: Home) -> None:
    home.ask("UPDATE upstream_keys SET sealed_key = substr(sealed_key, 1, 60) WHERE team_id = 1")
    done = home.rotate()
    assert len(done.unreadable) == 1 and done.keys == 1
    found = lent(home)
    assert isinstance(found["one"], KeyUnreadable) and isinstance(found["two"], LentKey)


def test_it_waits_for_who_writes_just_now(home: Home) -> None:
    """Longer than a tenant would wait; and what was begun is not for nothing where it has to give up."""
    writer = connect(home.ledger)
    writer.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(1.5, lambda: writer.execute("ROLLBACK"))
    timer.start()
    assert home.rotate().version == 2
    timer.join()
    writer.close()


def test_a_second_rotation_meanwhile_is_refused(home: Home) -> None:
    with KeyFile(home.key_file, CLOCK).turning(), pytest.raises(Refused, match="another process is changing it"):
        home.rotate()
    assert home.stands_under == 1


# --- ledgers that are older than ledger keys ----------------------------------------------------------------------


def made_older(home: Home) -> bytes:
    """As ledgers were before they had keys of their own: everything under the one master key. A content of it."""
    master = KeyFile(home.key_file, CLOCK).read().of_version(1)
    vault = Vault(master, CLOCK)
    connection = apsw.Connection(str(home.ledger))
    connection.execute("DELETE FROM meta WHERE name = 'ledger_key'")
    connection.execute("UPDATE meta SET value = ? WHERE name = 'vault_check'", (vault.check_value(),))
    for key_id, team in connection.execute("SELECT key_id, name FROM upstream_keys JOIN teams USING (team_id)"):
        text = upstream_key(str(team)).encode()
        sealed = vault.seal(text, table=KEYS_TABLE, row=str(key_id), column=KEY_COLUMN)
        connection.execute("UPDATE upstream_keys SET sealed_key = ? WHERE key_id = ?", (sealed, key_id))
    connection.close()
    return vault.seal(b"a body", **CONTENT)


def test_an_older_ledger_goes_on_with_its_contents_and_says_what_rests_on_version_1(home: Home) -> None:
    content = made_older(home)
    assert opens(home) and home.stands_under == 1
    assert {sealed[:3] for sealed in home.sealed_keys().values()} == {b"\x02\x00\x01"}
    done = home.rotate(drop_old=True)
    assert done.from_master and done.keys == 2
    with home.opened() as storage:
        assert storage.vault.open(content, **CONTENT) == b"a body"
    assert opens(home)


def test_no_record_of_an_older_ledger_is_left_after_its_rotation(home: Home) -> None:
    """They were shorter by a byte: what is written anew lies elsewhere, and the old place must be emptied."""
    made_older(home)
    keeper = connect(home.ledger)
    old = list(home.sealed_keys().values())
    assert all(record[31:] in b"".join(home.files().values()) for record in old)
    assert home.rotate().wiped
    assert not [name for name, content in home.files().items() for record in old if record[31:-1] in content]
    keeper.close()


def test_an_older_ledger_under_another_master_key_is_refused_before_anything_is_written(home: Home) -> None:
    made_older(home)
    home.key_file.write_bytes(bytes(32))
    with pytest.raises(BadSettings, match="another master key"), home.opened():
        pass
    assert home.fact("ledger_key") is None


def test_an_older_ledger_with_a_key_that_cannot_be_opened_goes_on_without_it(home: Home) -> None:
    made_older(home)
    home.ask("UPDATE upstream_keys SET sealed_key = zeroblob(80) WHERE team_id = 1")
    found = lent(home)
    assert isinstance(found["one"], KeyUnreadable) and isinstance(found["two"], LentKey)


def test_opening_while_a_rotation_goes_by_looks_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger read before it, the key file after it, which has dropped the old version by then."""
    read = KeyFile.read

    def late(self: KeyFile, *, may_create: bool = False) -> Keyring:
        monkeypatch.setattr(KeyFile, "read", read)
        home.rotate(drop_old=True)
        return read(self, may_create=may_create)

    monkeypatch.setattr(KeyFile, "read", late)
    with open_storage(home.settings, CLOCK), open_administration(home.settings) as admin:
        assert len(admin.keys("one")) == 1
    assert home.versions == (2,)
