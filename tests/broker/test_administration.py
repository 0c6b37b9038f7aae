"""Administering: what is refused, that a refusal changes nothing, and that a directory follows."""

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.broker.administration import MAX_EXPIRY_S, Administration, NewTenant
from gateway.broker.directory import Directory, LentKey
from gateway.broker.vault import MasterKey, Secret, Vault
from gateway.clock import SystemClock
from gateway.core.directory import Tenant
from gateway.errors import BadUsage, LedgerError, OperatorError, Refused
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import connect

TABLES = ("meta", "teams", "upstream_keys", "tenants", "tokens")
DAY_S = 86_400


class Time(SystemClock):
    """The system's randomness, and a wall clock that a test moves."""

    __slots__ = ("now_ms",)

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def wall_ms(self) -> int:
        return self.now_ms


class Office:
    """Administration of a real ledger with a team, a tenant and a token."""

    def __init__(self, path: Path) -> None:
        self.time = Time()
        self.vault = Vault(MasterKey(bytes(32)), self.time)
        self.connection = connect(path)
        self.store = SqliteDirectory(self.connection)
        self.admin = Administration(self.store, self.vault, self.time, who="ops")
        self.admin.add_team("team")
        self.admin.add_key("team", Secret("sandbox-key-1"))
        self.admin.add_tenant(NewTenant(name="shop", team="team"))
        self.token = self.admin.issue_token("shop").token
        self.directory = Directory(self.store.rows(), self.vault, self.time)

    def rows(self) -> dict[str, list[Any]]:
        statement = "SELECT * FROM {} ORDER BY 1"
        return {table: self.connection.execute(statement.format(table)).fetchall() for table in TABLES}

    def refuses(self, kind: type[Exception], change: Callable[[], object]) -> str:
        """The message of the refusal, after which every row is as it was."""
        before = self.rows()
        with pytest.raises(kind) as caught:
            change()
        assert self.rows() == before
        return str(caught.value)

    def follow(self) -> Directory:
        self.directory.replace(self.store.rows())
        return self.directory


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path / "o.db")
    yield found
    found.store.close()


GOOD_NAMES = ["a", "a1", "a-b", "a" * 63, "a" + "-" * 62, "z9"]
BAD_NAMES = [
    "",
    "A",
    "1a",
    "-a",
    "_a",
    "a" * 64,
    "a_b",
    "a b",
    "a\n",
    "\na",
    "a.b",
    "ä",
    "аb",
    "a１",
    "aB",
    "../a",
    "a'; --",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names_are_taken_once(office: Office, name: str) -> None:
    assert office.admin.add_team(name).name == name
    assert office.admin.add_tenant(NewTenant(name=name, team=name)).team == name
    assert name in office.refuses(Refused, lambda: office.admin.add_team(name))
    assert name in office.refuses(Refused, lambda: office.admin.add_tenant(NewTenant(name=name, team="team")))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_bad_usage(office: Office, name: str) -> None:
    office.refuses(BadUsage, lambda: office.admin.add_team(name))
    office.refuses(BadUsage, lambda: office.admin.add_tenant(NewTenant(name=name, team="team")))


def test_what_is_not_there_is_refused(office: Office) -> None:
    admin = office.admin
    for change in (
        lambda: admin.add_key("nobody", Secret("sandbox-key-2")),
        lambda: admin.keys("nobody"),
        lambda: admin.add_tenant(NewTenant(name="new", team="nobody")),
        lambda: admin.tenant("nobody"),
        lambda: admin.set_tenant_state("nobody", "suspended"),
        lambda: admin.set_metadata("nobody", defaults={}, enforced={}),
        lambda: admin.issue_token("nobody"),
        lambda: admin.tokens("nobody"),
        lambda: admin.revoke_token("nobody"),
        lambda: admin.revoke_token(office.token.secret),
        lambda: admin.tenant("SHOP"),
    ):
        message = office.refuses(Refused, change)
        assert "there is no" in message


@pytest.mark.parametrize(
    "key",
    [
        "",
        "short",
        "x" * 513,
        "with space!",
        "tab\tinside!",
        "newline\n!",
        "sandbox-key\n",
        "umlaut-ä-key",
        "\x7f" * 10,
        "nul\x00nul-nul",
    ],
)
def test_keys_that_cannot_stand_in_a_header_are_bad_usage(office: Office, key: str) -> None:
    message = office.refuses(BadUsage, lambda: office.admin.add_key("team", Secret(key)))
    assert not key or key not in message


def test_a_teams_first_key_is_active_and_later_ones_stand_by(office: Office) -> None:
    office.admin.add_team("other")
    second = office.admin.add_key("team", Secret("sandbox-key-2"), per_minute=0, per_hour=10)
    third = office.admin.add_key("other", Secret("sandbox-key-3"))
    assert (second.state, third.state, second.per_minute, second.per_hour) == ("standby", "active", 0, 10)
    assert {key.state for key in office.admin.keys("team")} == {"active", "standby"}
    lent = office.follow().key_of(third.team_id)
    assert isinstance(lent, LentKey) and lent.secret == Secret("sandbox-key-3")


@pytest.mark.parametrize("number", [-1, 2**63, -(2**70)])
def test_numbers_out_of_their_bounds_are_bad_usage(office: Office, number: int) -> None:
    admin = office.admin
    office.refuses(BadUsage, lambda: admin.add_key("team", Secret("sandbox-key-2"), per_minute=number))
    office.refuses(BadUsage, lambda: admin.add_key("team", Secret("sandbox-key-2"), per_hour=number))
    for tenant in (
        NewTenant(name="new", team="team", guaranteed_per_minute=number),
        NewTenant(name="new", team="team", implicit_window_s=number),
    ):
        office.refuses(BadUsage, functools.partial(admin.add_tenant, tenant))


def test_a_name_that_is_used_again_is_another_tenants_scope(office: Office) -> None:
    scopes = [office.admin.tenant("shop").scope]
    for _ in range(3):
        office.admin.remove_tenant("shop")
        scopes.append(office.admin.add_tenant(NewTenant(name="shop", team="team")).scope)
    assert scopes[0] == "shop" and len(set(scopes)) == 4
    assert all(re.fullmatch("shop#[0-9a-f]{8}", scope) for scope in scopes[1:])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants SET scope = '3'",  # made when a tenant's id was its scope, and removed
        "UPDATE tenants SET scope = 'new', name = 'new-2'",  # made again by a rejoin, which found its name taken
    ],
)
def test_no_tenant_gets_a_scope_that_was_anothers(office: Office, statement: str) -> None:
    office.connection.execute(statement)
    name = {"shop": "shop", "new-2": "new"}[office.admin.tenants()[0].name]
    if name == "shop":
        office.admin.remove_tenant("shop")
    assert office.admin.add_tenant(NewTenant(name=name, team="team")).scope.startswith(name + "#")


def test_a_new_tenant_is_what_was_asked(office: Office) -> None:
    asked = NewTenant(
        name="new", team="team", require_idempotency_key=True, guaranteed_per_minute=0, implicit_window_s=9
    )
    made = office.admin.add_tenant(asked)
    assert made == office.admin.tenant("new")
    assert (made.require_idempotency_key, made.guaranteed_per_minute, made.implicit_window_s) == (True, 0, 9)
    assert (made.state, made.defaults, made.enforced) == ("active", {}, {})


BAD_VALUES = [
    "", " ", "text", "'a'", '1,"x":2', '1}', '1}{', '{', '[1', '"open', "NaN", "Infinity", "-Infinity", "01", "+1",
    "1 2", "1,", '1,"value":2', '{"a":1,"a":2}', '"\\ud800"', '"\ud800"', "null,", "/**/1", '"a":1', "\x00",
    '1\x00', "[" * 200 + "]" * 200, "True",
]  # fmt: skip
GOOD_VALUES = [
    "1",
    "1.50",
    "1e999",
    "-0",
    "null",
    "true",
    '"text"',
    '""',
    "[]",
    "{}",
    '{"a":[1,{"b":null}]}',
    " 1 ",
    '"\\u0061"',
    '"}"',
]


@pytest.mark.parametrize("text", BAD_VALUES)
@pytest.mark.parametrize("where", ["defaults", "enforced"])
def test_metadata_that_is_not_one_json_value_is_bad_usage(office: Office, text: str, where: str) -> None:
    office.admin.set_metadata("shop", defaults={"a": "1"}, enforced={})
    lists = {"defaults": {"ok": "1"}, "enforced": {"fine": "2"}}
    lists[where] = {**lists[where], "bad": text}
    office.refuses(BadUsage, lambda: office.admin.set_metadata("shop", **lists))


@pytest.mark.parametrize("name", ["gateway", "gatewayX", "GATEWAYorder", "Gateway", "bad\ud800name"])
def test_names_that_are_not_the_tenants_to_have_are_bad_usage(office: Office, name: str) -> None:
    office.refuses(BadUsage, lambda: office.admin.set_metadata("shop", defaults={name: "1"}, enforced={}))
    office.refuses(BadUsage, lambda: office.admin.set_metadata("shop", defaults={}, enforced={name: "1"}))


def test_metadata_that_would_make_every_order_large_is_bad_usage(office: Office) -> None:
    text = f'"{"x" * 65_530}"'
    assert office.admin.set_metadata("shop", defaults={"abcd": text}, enforced={"abcd": text}).defaults
    office.refuses(BadUsage, lambda: office.admin.set_metadata("shop", defaults={}, enforced={"abcde": text}))


@pytest.mark.parametrize("text", GOOD_VALUES)
def test_metadata_is_kept_as_it_is_spelled(office: Office, text: str) -> None:
    defaults, enforced = {"a": text, "": text, 'é\n"': text}, {"b": text}
    tenant = office.admin.set_metadata("shop", defaults=defaults, enforced=enforced)
    assert (tenant.defaults, tenant.enforced) == (defaults, enforced)
    found = office.follow().authenticate(office.token.text())
    assert isinstance(found, Tenant) and (found.defaults, found.enforced) == (defaults, enforced)
    assert office.admin.set_metadata("shop", defaults={}, enforced={}).defaults == {}, "replaces both lists"


def test_a_suspended_tenant_is_known_and_resumes(office: Office) -> None:
    for state in ("suspended", "suspended", "active"):
        assert office.admin.set_tenant_state("shop", state).state == state
        found = office.follow().authenticate(office.token.text())
        assert isinstance(found, Tenant) and found.state == state


@pytest.mark.parametrize("seconds", [0, -1, MAX_EXPIRY_S + 1])
def test_expiry_out_of_its_bounds_is_bad_usage(office: Office, seconds: int) -> None:
    office.refuses(BadUsage, lambda: office.admin.issue_token("shop", expires_in_s=seconds))


def test_a_token_expires_to_the_millisecond(office: Office) -> None:
    issued = office.admin.issue_token("shop", expires_in_s=DAY_S)
    assert issued.record.expires_ms == office.time.now_ms + 1000 * DAY_S
    directory = office.follow()
    office.time.now_ms += 1000 * DAY_S - 1
    assert isinstance(directory.authenticate(issued.token.text()), Tenant)
    office.time.now_ms += 1
    assert directory.authenticate(issued.token.text()) == "expired"
    assert isinstance(directory.authenticate(office.token.text()), Tenant)


def test_a_token_is_stored_as_a_keyed_hash_only(office: Office) -> None:
    issued = office.admin.issue_token("shop")
    for row in office.rows()["tokens"]:
        assert all(issued.token.secret not in str(value) for value in row)
    assert issued.token.secret not in repr(issued)
    assert office.admin.tokens("shop")[-1] == issued.record or issued.record in office.admin.tokens("shop")


def test_revoking_acts_and_again_changes_no_date(office: Office) -> None:
    office.time.now_ms = 5_000
    record = office.admin.revoke_token(office.token.token_id)
    assert record.revoked_ms == 5_000
    office.time.now_ms = 9_000
    assert office.admin.revoke_token(office.token.token_id) == record
    assert office.follow().authenticate(office.token.text()) == "revoked"


def test_every_change_moves_the_version_and_no_look_does(office: Office) -> None:
    admin = office.admin
    changes: list[Callable[[], object]] = [
        lambda: admin.add_team("other"),
        lambda: admin.add_key("other", Secret("sandbox-key-2")),
        lambda: admin.add_tenant(NewTenant(name="new", team="other")),
        lambda: admin.set_tenant_state("new", "suspended"),
        lambda: admin.set_metadata("new", defaults={"a": "1"}, enforced={}),
        lambda: admin.issue_token("new"),
        lambda: admin.revoke_token(office.token.token_id),
    ]
    for change in changes:
        before = office.store.version()
        change()
        assert office.store.version() == before + 1
    before = office.store.version()
    for look in (admin.teams, admin.tenants, lambda: admin.keys("team"), lambda: admin.tokens("shop")):
        look()
    assert office.store.version() == before == office.store.rows().version


def test_a_change_that_fails_half_way_is_not_there(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> bytes:
        raise RuntimeError("half-way")

    monkeypatch.setattr(office.store, "version", fails)
    office.refuses(RuntimeError, lambda: office.admin.add_team("other"))
    office.refuses(RuntimeError, lambda: office.admin.issue_token("shop"))


def test_a_ledger_that_is_held_is_an_error_and_no_change(office: Office, tmp_path: Path) -> None:
    other = apsw.Connection(str(tmp_path / "o.db"))
    other.execute("BEGIN IMMEDIATE")
    office.refuses(LedgerError, lambda: office.admin.add_team("other"))
    other.execute("ROLLBACK")
    other.close()
    office.admin.add_team("other")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_metadata_is_taken_whole_or_refused_whole(office: Office, name: str, text: str) -> None:
    before = office.rows()
    try:
        tenant = office.admin.set_metadata("shop", defaults={name: text}, enforced={})
    except OperatorError:
        assert office.rows() == before
    else:
        assert tenant.defaults == {name: text}
