"""The states of an upstream key: what each word of an operator and of OfferGrid makes of it, as the page says it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.broker.administration import Administration
from gateway.broker.directory import Directory, LentKey
from gateway.broker.vault import MasterKey, Secret, Vault
from gateway.clock import SystemClock
from gateway.core.account import verdict_of
from gateway.core.listing import ListedOrder, Listing, read_listing
from gateway.errors import Refused
from gateway.ledger.sqlite_directory import SqliteDirectory, refuse_key
from gateway.ledger.sqlite_engine import connect, transaction
from tests.rules.source import ROOT

PAGE: Final = ROOT / "docs/administration.md"
CLOCK: Final = SystemClock()
STATES: Final = ("active", "standby", "retiring", "refused", "revoked")
EVENTS: Final = (
    "verify: accepted",
    "verify: 401",
    "verify: another account",
    "activate",
    "an order met 401",
    "revoke",
)
TABLE: Final = {
    "active": ("active", "refused", "active", "active", "refused", "revoked"),
    "standby": ("standby, usable", "refused", "standby", "active", "refused", "revoked"),
    "retiring": ("retiring", "refused", "retiring, not usable", "active", "refused", "revoked"),
    "refused": ("standby, usable", "refused", "refused", "active", "refused", "revoked"),
    "revoked": ("no", "no", "no", "no", "revoked", "revoked"),
}
"""By the state before: the state after each event. `no`: refused. A state is usable where it says nothing, but for
`standby`, `refused` and `revoked`.
"""


class Office:
    """A team with a key in each state it may be brought into."""

    def __init__(self, path: Path) -> None:
        self.vault = Vault(MasterKey(bytes(32)), CLOCK)
        self.connection = connect(path)
        self.store = SqliteDirectory(self.connection)
        self.store.begin_chain(self.vault, 0, new=True)
        self.admin = Administration(self.store, self.vault, CLOCK, who="ops")
        self.admin.add_team("team")
        self.first = self._add(0)

    def _add(self, number: int) -> str:
        return self.admin.add_key("team", Secret(f"sandbox-key-{number}")).key_id

    def key_that_is(self, state: str) -> str:
        if state == "active":
            return self.first
        if state == "retiring":
            self.admin.activate_key("team", self._add(1), "untold")
            return self.first
        key_id = self._add(1)
        if state == "refused":
            self.admin.key_was_tried("team", key_id, "refused")
        if state == "revoked":
            self.admin.revoke_key("team", key_id)
        assert self.admin.key("team", key_id).state == state
        return key_id

    def order_met_401(self, key_id: str) -> None:
        with transaction(self.connection):
            refuse_key(self.connection, self.vault, key_id, 5)

    def told(self, key_id: str) -> str:
        key = self.admin.key("team", key_id)
        usual = key.state in ("active", "retiring")
        return key.state if key.is_usable == usual else f"{key.state}, {'' if key.is_usable else 'not '}usable"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    found = Office(tmp_path / "o.db")
    yield found
    found.store.close()


Event = Callable[[Office, str], object]

DOES: Final[dict[str, Event]] = {
    "verify: accepted": lambda o, key: o.admin.key_was_tried("team", key, "same_account"),
    "verify: 401": lambda o, key: o.admin.key_was_tried("team", key, "refused"),
    "verify: another account": lambda o, key: o.admin.key_was_tried("team", key, "another_account"),
    "activate": lambda o, key: o.admin.activate_key("team", key, "same_account"),
    "an order met 401": lambda o, key: o.order_met_401(key),
    "revoke": lambda o, key: o.admin.revoke_key("team", key),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_a_key_becomes_what_the_table_says(office: Office, state: str, event: str) -> None:
    key_id = office.key_that_is(state)
    before, expected = office.told(key_id), TABLE[state][EVENTS.index(event)]
    try:
        DOES[event](office, key_id)
    except Refused:
        assert expected == "no"
    if expected == "no":  # by whoever would read with it, before anything is read; and whatever a read had shown
        expected = before
    assert office.told(key_id) == expected
    assert [key.state for key in office.admin.keys("team")].count("active") <= 1
    assert office.admin.verify_audit().broken is None


def test_the_page_says_the_same() -> None:
    lines = ["| " + " | ".join(("", *EVENTS)) + " |", "| --- |" + " --- |" * len(EVENTS)]
    lines += ["| " + " | ".join((f"`{state}`", *TABLE[state])) + " |" for state in STATES]
    assert "\n".join(lines).replace("|  |", "| |") in PAGE.read_text("utf-8"), "\n".join(lines)


def test_activating_retires_the_one_before_and_no_other(office: Office) -> None:
    second, third = (office._add(number) for number in (1, 2))
    office.admin.activate_key("team", second, "untold")
    office.admin.activate_key("team", third, "same_account")
    found = {key.key_id: (key.state, key.is_usable) for key in office.admin.keys("team")}
    assert found == {office.first: ("retiring", True), second: ("retiring", True), third: ("active", True)}
    following = office.admin.next_key("team")
    assert following is not None and following.key_id == third
    office.admin.revoke_key("team", third)
    following = office.admin.next_key("team")
    assert following is not None and following.state == "retiring"
    for key_id in (office.first, second):
        office.admin.revoke_key("team", key_id)
    assert office.admin.next_key("team") is None


def test_of_an_account_that_the_team_has_left_no_key_is_used(office: Office) -> None:
    second, third = (office._add(number) for number in (1, 2))
    office.admin.key_was_tried("team", third, "untold")
    office.admin.activate_key("team", second, "another_account", new_account=True)
    assert [key.key_id for key in office.admin.keys("team") if key.is_usable] == [second]
    directory = Directory(office.store.rows(), office.vault, CLOCK)
    (team,) = office.admin.teams()
    lent = directory.key_of(team.team_id)
    assert isinstance(lent, LentKey) and lent.key_id == second
    assert directory.key_beside(team.team_id, (second,)) is None
    office.admin.activate_key("team", third, "untold")
    assert office.admin.key("team", third).is_usable


def test_a_key_that_stays_in_its_account_is_no_new_account(office: Office) -> None:
    second = office._add(1)
    office.connection.execute(
        """INSERT INTO orders (order_id, tenant_id, tenant, team_id, outcome, version, fingerprint, created_ms)
           VALUES ('o', 1, 'shop', 1, 'unknown', 1, x'', 0)"""
    )
    office.admin.activate_key("team", second, "same_account", new_account=True)
    assert office.admin.key("team", office.first).is_usable, "orders in doubt are no hindrance either"


def listing(*upstream_ids: str) -> Listing:
    text = ",".join(f'{{"orderId": "{one}"}}' for one in upstream_ids)
    found = read_listing(f"[{text}]".encode())
    assert found is not None and all(isinstance(order, ListedOrder) for order in found.orders)
    return found


@pytest.mark.parametrize(
    ("listed", "placed", "verdict"),
    [
        ((), (), "untold"),
        (("a",), (), "untold"),
        ((), ("a",), "another_account"),
        (("b", "c"), ("a",), "another_account"),
        (("b", "a"), ("a", "d"), "same_account"),
    ],
)
def test_one_order_that_the_ledger_knows_tells_the_account(
    listed: tuple[str, ...], placed: tuple[str, ...], verdict: str
) -> None:
    assert verdict_of(listing(*listed), frozenset(placed)) == verdict
