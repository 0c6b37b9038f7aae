"""Whose token it is: the same work for every token, and a snapshot that is replaced whole."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker.administration import Administration, NewTenant
from gateway.broker.directory import KEY_COLUMN, KEYS_TABLE, Directory, KeyUnreadable, LentKey
from gateway.broker.vault import MasterKey, Secret, Vault
from gateway.clock import SystemClock
from gateway.core.directory import DirectoryRows, Tenant
from gateway.core.tokens import mint, parse
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import connect

CLOCK = SystemClock()
VAULT = Vault(MasterKey(bytes(32)), CLOCK)


class Counting:
    """A vault that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def mac(self, purpose: Any, data: bytes) -> bytes:
        self.asked.append(("mac", purpose, len(data)))
        return VAULT.mac(purpose, data)

    def open_secret(self, sealed: bytes, *, table: str, row: str, column: str) -> Secret:
        self.asked.append(("open", table))
        return VAULT.open_secret(sealed, table=table, row=row, column=column)


@pytest.fixture
def rows(tmp_path: Path) -> tuple[DirectoryRows, dict[str, str]]:
    """Two teams, two tenants, and tokens that are good, revoked, expired, and the other tenant's."""
    store = SqliteDirectory(connect(tmp_path / "o.db"))
    admin = Administration(store, VAULT, CLOCK, who="ops")
    for team in ("one", "two"):
        admin.add_team(team)
        admin.add_key(team, Secret(f"sandbox-key-{team}"))
        admin.add_tenant(NewTenant(name=f"shop-{team}", team=team))
    tokens = {name: admin.issue_token("shop-one").token for name in ("good", "revoked", "expired")}
    tokens["other"] = admin.issue_token("shop-two").token
    admin.revoke_token(tokens["revoked"].token_id)
    found = store.rows()
    store.close()
    expired = tokens["expired"].token_id
    records = tuple(
        msgspec.structs.replace(record, expires_ms=1) if record.token_id == expired else record
        for record in found.tokens
    )
    return msgspec.structs.replace(found, tokens=records), {name: token.text() for name, token in tokens.items()}


Rows = tuple[DirectoryRows, dict[str, str]]


def _wrong(text: str) -> str:
    """The same token with another secret."""
    token = parse(text)
    assert token is not None
    return msgspec.structs.replace(mint(bytes(6), bytes(32)), token_id=token.token_id).text()


def test_each_token_has_its_verdict(rows: Rows) -> None:
    directory = Directory(rows[0], VAULT, CLOCK)
    shown = rows[1]
    for name, tenant in (("good", "shop-one"), ("other", "shop-two")):
        found = directory.authenticate(shown[name])
        assert isinstance(found, Tenant) and found.name == tenant
    assert directory.authenticate(shown["revoked"]) == "revoked"
    assert directory.authenticate(shown["expired"]) == "expired"
    for name in shown:
        assert directory.authenticate(_wrong(shown[name])) == "wrong_secret", "says nothing of a token's state"
    assert directory.authenticate(mint(bytes(6), bytes(32)).text()) == "unknown"
    for text in ("", "nonsense", shown["good"] + "x", " " + shown["good"], shown["good"].upper()):
        assert directory.authenticate(text) == "malformed"


def test_one_tenants_id_with_anothers_secret_opens_nothing(rows: Rows) -> None:
    directory = Directory(rows[0], VAULT, CLOCK)
    good, other = parse(rows[1]["good"]), parse(rows[1]["other"])
    assert good and other
    mixed = msgspec.structs.replace(good, secret=other.secret)
    assert directory.authenticate(mixed.text()) == "wrong_secret"


def test_every_well_formed_token_costs_the_same_work(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Counting()
    directory = Directory(rows[0], vault, CLOCK)
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("gateway.broker.directory.hmac.compare_digest", compare)
    work = []
    for text in (*rows[1].values(), _wrong(rows[1]["good"]), mint(b"nobody", bytes(32)).text()):
        vault.asked.clear()
        compared.clear()
        directory.authenticate(text)
        work.append((tuple(vault.asked), tuple(compared)))
    assert set(work) == {((("mac", "token", 52),), ((32, 32),))}


def test_the_digest_of_nothing_is_no_tokens(rows: Rows) -> None:
    """The stand-in that unknown tokens are compared with can never match."""
    directory = Directory(rows[0], VAULT, CLOCK)
    assert directory._no_such_token != VAULT.mac("token", mint(bytes(6), bytes(32)).secret.encode())


@given(st.text(max_size=80))
def test_any_text_has_a_verdict(text: str) -> None:
    empty = DirectoryRows(version=1, teams=(), keys=(), tenants=(), tokens=())
    assert Directory(empty, VAULT, CLOCK).authenticate(text) in ("malformed", "unknown")


def test_only_a_usable_key_is_lent_and_an_unreadable_one_never(rows: Rows) -> None:
    found = rows[0]
    first = found.keys[0]
    directory = Directory(found, VAULT, CLOCK)
    lent = directory.key_of(first.team_id)
    assert isinstance(lent, LentKey) and lent.key_id == first.key_id
    assert "sandbox" not in repr(lent) and "sandbox" not in repr(directory.snapshot.keys)
    for state, verified_ms, usable in (
        ("standby", None, False), ("standby", 1, True), ("retiring", None, True), ("revoked", 1, False),
        ("refused", 1, False),
    ):  # fmt: skip
        keys = tuple(msgspec.structs.replace(key, state=state, verified_ms=verified_ms) for key in found.keys)
        directory.replace(msgspec.structs.replace(found, keys=keys))
        assert (directory.key_of(first.team_id) is not None) == usable
    moved = msgspec.structs.replace(found.keys[1], sealed_key=first.sealed_key)
    directory.replace(msgspec.structs.replace(found, keys=(first, moved)))
    assert directory.key_of(moved.team_id) == KeyUnreadable(key_id=moved.key_id), "another row's seal opens nothing"
    assert isinstance(directory.key_of(first.team_id), LentKey)
    assert directory.key_of(999) is None


def test_the_active_key_comes_first_then_what_was_active_then_what_stands_by(rows: Rows) -> None:
    first = rows[0].keys[0]
    others = [
        msgspec.structs.replace(first, key_id=f"key-{state}", state=state, verified_ms=1, sealed_key=_sealed(state))
        for state in ("standby", "refused", "retiring")
    ]
    directory = Directory(msgspec.structs.replace(rows[0], keys=(*others, first)), VAULT, CLOCK)
    tried: list[str] = []
    while (key := directory.key_beside(first.team_id, tried)) is not None:
        tried.append(key.key_id)
    assert tried == [first.key_id, "key-retiring", "key-standby"]


def _sealed(state: str) -> bytes:
    return VAULT.seal_secret(
        Secret("sandbox-key-x"), table=KEYS_TABLE, row=f"1/key-{state}", column=KEY_COLUMN, version=1
    )


class Calendar(SystemClock):
    """A clock whose day a test sets."""

    def __init__(self, day: int) -> None:
        self.day = day

    def wall_ms(self) -> int:
        return self.day * 86_400_000 + 3_600_000


def test_a_tokens_day_is_noted_once_and_only_of_a_token_that_was_taken(rows: Rows) -> None:
    clock = Calendar(20_000)
    directory = Directory(rows[0], VAULT, clock)
    good, other = (parse(rows[1][name]) for name in ("good", "other"))
    assert good and other
    for text in (rows[1]["revoked"], rows[1]["expired"], _wrong(rows[1]["good"]), "nonsense"):
        directory.authenticate(text)
    assert directory.take_used() == {}
    for _ in range(3):
        directory.authenticate(rows[1]["good"])
    assert directory.take_used() == {good.token_id: 20_000}
    directory.authenticate(rows[1]["good"])
    assert directory.take_used() == {}, "it was given already"
    clock.day = 19_999
    directory.authenticate(rows[1]["good"])
    assert directory.take_used() == {}, "a clock that steps back is no news"
    clock.day = 20_001
    directory.authenticate(rows[1]["good"])
    directory.authenticate(rows[1]["other"])
    taken = directory.take_used()
    assert taken == {good.token_id: 20_001, other.token_id: 20_001}
    directory.give_back_used(taken)
    assert directory.take_used() == taken


def test_what_another_process_has_noted_today_is_not_noted_again(rows: Rows) -> None:
    noted = tuple(msgspec.structs.replace(record, last_used_day=20_000) for record in rows[0].tokens)
    directory = Directory(msgspec.structs.replace(rows[0], tokens=noted), VAULT, Calendar(20_000))
    directory.authenticate(rows[1]["good"])
    assert directory.take_used() == {}


def test_a_snapshot_is_replaced_whole(rows: Rows) -> None:
    directory = Directory(rows[0], VAULT, CLOCK)
    before = directory.snapshot
    directory.replace(msgspec.structs.replace(rows[0], version=99, tokens=()))
    assert directory.snapshot.version == 99
    assert directory.authenticate(rows[1]["good"]) == "unknown"
    assert before.tokens, "who holds the old one sees the old one"
