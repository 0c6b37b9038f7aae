"""Each change has one audit row, in the same transaction; what is refused, and what changes nothing, has none."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec
import pytest

from gateway.broker.administration import Administration, NewTenant
from gateway.broker.vault import MasterKey, Secret, Vault
from gateway.clock import SystemClock
from gateway.core.tenants_plan import TenantsFile, WantedTeam, WantedTenant
from gateway.errors import LedgerError, OperatorError
from gateway.ledger.sqlite_directory import SqliteDirectory, refuse_key
from gateway.ledger.sqlite_engine import connect, transaction

TABLES: Final = ("audit", "teams", "upstream_keys", "tenants", "tokens", "removed_tenants", "meta")
SECRETS: Final = [f"sandbox-key-canary-{number}" for number in range(4)]


class Office:
    """A team `full` with an active key `one`, a key `two` that stands by, tenant `shop` and a token; a team `empty`."""

    def __init__(self, path: Path) -> None:
        self.vault = Vault(MasterKey(bytes(32)), SystemClock())
        self.connection = connect(path)
        self.store = SqliteDirectory(self.connection)
        self.store.begin_chain(self.vault, 0, new=True)
        self.admin = Administration(self.store, self.vault, SystemClock(), who="ops")
        self.admin.add_team("full")
        self.admin.add_team("empty")
        self.one = self.admin.add_key("full", Secret(SECRETS[0])).key_id
        self.two = self.admin.add_key("full", Secret(SECRETS[1])).key_id
        self.admin.add_tenant(NewTenant(name="shop", team="full"))
        self.token = self.admin.issue_token("shop").token

    def unsettled(self) -> bool:
        """The tenant has an order in doubt."""
        self.connection.execute(
            """INSERT INTO orders (order_id, tenant_id, tenant, team_id, outcome, version, fingerprint, created_ms)
               SELECT 'o', tenant_id, name, team_id, 'unknown', 1, x'', 0 FROM tenants"""
        )
        return True

    def rows(self) -> dict[str, list[Any]]:
        return {table: self.connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608 - of ours


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path / "o.db")
    yield found
    found.store.close()


def a_file(*tenants: str, **options: Any) -> TenantsFile:
    return TenantsFile(
        teams=(WantedTeam(name="full", place="f:1:1"), WantedTeam(name="third", place="f:2:1")),
        tenants=tuple(WantedTenant(name=name, team="full", place="f:3:1", **options) for name in tenants),
    )


Change = Callable[[Office], object]

CHANGES: Final[dict[str, tuple[Change, list[tuple[str, str]]]]] = {
    "add_team": (lambda o: o.admin.add_team("third"), [("team add", "third")]),
    "remove_team": (lambda o: o.admin.remove_team("empty"), [("team remove", "empty")]),
    "add_key": (lambda o: o.admin.add_key("full", Secret(SECRETS[2]), per_minute=5), [("key add", "*")]),
    "key_was_tried": (lambda o: o.admin.key_was_tried("full", o.two, "untold"), [("key verify", "two")]),
    "key_was_tried, refused": (
        lambda o: o.admin.key_was_tried("full", o.one, "refused"),
        [("key refused", "one")],
    ),
    "key_was_tried, another account": (
        lambda o: o.admin.key_was_tried("full", o.two, "another_account"),
        [("key verify", "two")],
    ),
    "activate_key": (lambda o: o.admin.activate_key("full", o.two, "same_account"), [("key activate", "two")]),
    "activate_key, of a new account": (
        lambda o: o.admin.activate_key("full", o.two, "another_account", new_account=True),
        [("key activate", "two")],
    ),
    "revoke_key": (lambda o: o.admin.revoke_key("full", o.one), [("key revoke", "one")]),
    "add_tenant": (lambda o: o.admin.add_tenant(NewTenant(name="till", team="full")), [("tenant add", "till")]),
    "set_tenant_state": (
        lambda o: o.admin.set_tenant_state("shop", "suspended"),
        [("tenant suspend", "shop")],
    ),
    "set_metadata": (
        lambda o: o.admin.set_metadata("shop", defaults={"a": "1"}, enforced={}),
        [("tenant metadata", "shop")],
    ),
    "remove_tenant": (lambda o: o.admin.remove_tenant("shop"), [("tenant remove", "shop")]),
    "issue_token": (lambda o: o.admin.issue_token("shop"), [("token issue", "*")]),
    "revoke_token": (lambda o: o.admin.revoke_token(o.token.token_id), [("token revoke", "token")]),
    "apply": (
        lambda o: o.admin.apply(a_file("new", "shop", state="suspended"), prune=True, dry_run=False),
        [("team add", "third"), ("tenant add", "new"), ("tenant suspend", "shop"), ("team remove", "empty")],
    ),
    "refuse_key, of an order that met 401": (
        lambda o: _in_transaction(o, lambda: refuse_key(o.connection, o.vault, o.one, 5)),
        [("key refused", "one")],
    ),
}

LOOKS: Final = {"team", "teams", "key", "keys", "next_key", "placed_of_team", "tenant", "tenants", "tokens"}
LOOKS_AT_THE_LOG: Final = {"audited", "verify_audit"}
PARTS_OF_APPLY: Final = {"prepare", "carry_out"}

AGAIN: Final[dict[str, Change]] = {
    "a key that is active": lambda o: o.admin.activate_key("full", o.one, "same_account"),
    "a key that was revoked": lambda o: (o.admin.revoke_key("full", o.two), o.admin.revoke_key("full", o.two)),
    "a state that it has": lambda o: o.admin.set_tenant_state("shop", "active"),
    "metadata that it has": lambda o: o.admin.set_metadata("shop", defaults={}, enforced={}),
    "a token that was revoked": lambda o: [o.admin.revoke_token(o.token.token_id) for _ in range(2)],
    "a file that says what is": lambda o: o.admin.apply(TenantsFile(), prune=True, dry_run=False),
    "a file that is tried": lambda o: o.admin.apply(a_file("new"), prune=True, dry_run=True),
}
WITH_ONE_ROW: Final = {"a key that was revoked", "a token that was revoked"}

REFUSED: Final[dict[str, Change]] = {
    "a team that is there": lambda o: o.admin.add_team("full"),
    "a team's bad name": lambda o: o.admin.add_team("Full"),
    "a team with tenants": lambda o: o.admin.remove_team("full"),
    "a team that is not there": lambda o: o.admin.remove_team("nobody"),
    "a team with a key": lambda o: (o.admin.add_key("empty", Secret(SECRETS[3])), o.admin.remove_team("empty")),
    "a bad key": lambda o: o.admin.add_key("full", Secret("short")),
    "a key that OfferGrid refuses": lambda o: o.admin.activate_key("full", "nothing", "same_account"),
    "a key of another account": lambda o: o.admin.activate_key("full", o.two, "another_account"),
    "a new account, and orders in doubt": lambda o: (
        o.unsettled(),
        o.admin.activate_key("full", o.two, "another_account", new_account=True),
    ),
    "a key that was revoked": lambda o: (
        o.admin.revoke_key("full", o.two),
        o.admin.activate_key("full", o.two, "same_account"),
    ),
    "a tenant that is there": lambda o: o.admin.add_tenant(NewTenant(name="shop", team="full")),
    "a tenant with orders in doubt": lambda o: (o.unsettled(), o.admin.remove_tenant("shop")),
    "a tenant that is not there": lambda o: o.admin.set_tenant_state("nobody", "active"),
    "metadata that is none": lambda o: o.admin.set_metadata("shop", defaults={"a": "red"}, enforced={}),
    "a token of nobody": lambda o: o.admin.issue_token("nobody"),
    "a token that is not there": lambda o: o.admin.revoke_token("nothing"),
    "a file with one fault": lambda o: o.admin.apply(
        msgspec.structs.replace(a_file("new", "other"), teams=(WantedTeam(name="third", place="f:1:1"),)),
        prune=True,
        dry_run=False,
    ),
}
WITH_ROWS: Final = {"a team with a key": "key add", "a key that was revoked": "key revoke"}
"""What was done before the refusal, and is told."""
DISOWNED: Final = "a key of another account"


def _in_transaction(office: Office, change: Callable[[], object]) -> None:
    with transaction(office.connection):
        change()


def new_rows(office: Office, change: Change) -> list[Any]:
    before = len(office.admin.audited(limit=1000))
    change(office)
    rows = list(reversed(office.admin.audited(limit=1000)))
    return rows[before:]


def test_every_operation_is_here() -> None:
    there = {name for name, _ in inspect.getmembers(Administration, inspect.isfunction) if not name.startswith("_")}
    assert there == LOOKS | LOOKS_AT_THE_LOG | PARTS_OF_APPLY | {name.partition(",")[0] for name in CHANGES} - {
        "refuse_key"
    }


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_has_one_row(office: Office, name: str) -> None:
    change, told = CHANGES[name]
    rows = new_rows(office, change)
    subjects = {"one": office.one, "two": office.two, "token": office.token.token_id}
    assert [row.action.decode() for row in rows] == [action for action, _ in told]
    for row, (_, subject) in zip(rows, told, strict=True):
        assert subject == "*" or row.subject.decode() == subjects.get(subject, subject)
        assert row.who == (b"gateway" if name.startswith("refuse_key") else b"ops") and row.link
        assert {"from", "to"} & set(msgspec.json.decode(row.change))
    assert office.admin.verify_audit().broken is None
    seen = b"".join(row.subject + row.change for row in office.admin.audited(limit=1000))
    assert b"canary" not in seen and office.token.secret.encode() not in seen


@pytest.mark.parametrize("name", AGAIN)
def test_what_changes_nothing_has_no_row(office: Office, name: str) -> None:
    assert len(new_rows(office, AGAIN[name])) == (name in WITH_ONE_ROW)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_has_no_row(office: Office, name: str) -> None:
    def change(_: Office) -> None:
        with pytest.raises(OperatorError):
            REFUSED[name](office)

    rows = [row.action.decode() for row in new_rows(office, change)]
    told = "key verify" if name == DISOWNED else WITH_ROWS.get(name)
    assert rows == ([] if told is None else [told])
    assert office.admin.verify_audit().broken is None


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_cannot_be_audited_is_not_made(office: Office, name: str) -> None:
    office.connection.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
    before = office.rows()
    with pytest.raises((LedgerError, apsw.Error)):
        CHANGES[name][0](office)
    assert office.rows() == before
