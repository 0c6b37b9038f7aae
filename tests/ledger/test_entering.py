"""What OfferGrid lists is entered: every order once, under the keys that name it, and the quarantine ends with it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from gateway.core.reentry import Reentry
from gateway.errors import LedgerError
from gateway.ledger.mark import Quarantine, put_into_quarantine, quarantine_of
from gateway.ledger.sqlite_audit import begin_chain
from gateway.ledger.sqlite_check import check_rows
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import connect, transaction
from gateway.ledger.sqlite_rejoin import WITNESS_MS, Entered, Moment, rejoin, witnesses
from tests.ledger.ledger_tools import VAULT

NOW_MS, TICK, TTL_MS = 1_700_000_000_000, 500_000, 86_400_000
ROW = """
INSERT INTO orders (order_id, tenant_id, tenant, team_id, outcome, version, fingerprint, key_digest, created_ms,
                    created_tick, settled_ms, settled_tick, upstream_order_id, owner)
VALUES (:order_id, 1, 'shop', 1, :outcome, 3, x'01', :key_digest, :created_ms, :created_tick, :settled_ms,
        :settled_ms, :upstream_order_id, :owner)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[apsw.Connection]:
    """In quarantine, with one team and one tenant."""
    connection = connect(tmp_path / "o.db")
    connection.execute("INSERT INTO teams (name, created_ms) VALUES ('team', 1)")
    connection.execute(
        """INSERT INTO tenants (name, team_id, state, require_idempotency_key, defaults, enforced, created_ms)
           VALUES ('shop', 1, 'active', 0, '{}', '{}', 1)"""
    )
    facts = {"ledger_id": "mine", "ledger_key": b"\1\0\1 and more", "vault_check": "x"}
    connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", facts.items())
    put_into_quarantine(connection, Quarantine(reason="restored", since_tick=1))
    begin_chain(connection, VAULT, 1, new=True)
    yield connection
    connection.close()


def add(ledger: apsw.Connection, order_id: str, outcome: str = "placed", **columns: Any) -> None:
    settled = outcome in ("placed", "rejected", "not_placed")
    values = {
        "order_id": order_id, "outcome": outcome, "key_digest": None, "created_ms": NOW_MS, "created_tick": TICK,
        "settled_ms": NOW_MS if settled else None, "owner": 1 if outcome in ("queued", "in_flight") else None,
        "upstream_order_id": f"up-{order_id}" if outcome == "placed" else None, **columns,
    }  # fmt: skip
    ledger.execute(ROW, values)


def listed(order_id: str, upstream_order_id: str | None = None, **more: Any) -> Reentry:
    values: dict[str, Any] = {
        "order_id": order_id, "tenant": "shop", "key_digest": None, "fingerprint": b"body", "received_ms": NOW_MS,
        "upstream_order_id": upstream_order_id or f"up-{order_id}", "upstream_status": "OPEN", "text": b"{}", **more,
    }  # fmt: skip
    return Reentry(**{"scope": values["tenant"], **values})


def enter(ledger: apsw.Connection, *orders: Reentry, team_id: int = 1, wall_ms: int = NOW_MS) -> Entered:
    with transaction(ledger):
        now = Moment(wall_ms=wall_ms, tick=TICK, ttl_ms=TTL_MS)
        return rejoin(ledger, VAULT, now, {team_id: orders}, who="ops", unread=["dead"])


def ways(entered: Entered) -> list[tuple[str, str | None, str]]:
    return [(entry.order_id, entry.was, entry.way) for entry in entered.entries]


def rows(ledger: apsw.Connection, columns: str) -> dict[str, Sequence[Any]]:
    found: list[Any] = ledger.execute(f"SELECT order_id, {columns} FROM orders").fetchall()  # noqa: S608 - names of ours
    return {order_id: rest for order_id, *rest in found}


def test_what_is_missing_is_inserted_under_the_keys_that_name_it(ledger: apsw.Connection) -> None:
    done = enter(ledger, listed("a", key_digest=b"key"), listed("b"))
    assert ways(done) == [("a", None, "inserted"), ("b", None, "inserted")]
    columns = """tenant_id, tenant, team_id, outcome, cause, http_status, key_digest, fingerprint, upstream_order_id,
                 upstream_status, created_ms, settled_tick, owner"""
    common = [1, "shop", 1, "placed", "placed", 201]
    last = ["OPEN", NOW_MS, TICK, None]
    assert rows(ledger, columns) == {
        "a": [*common, b"key", b"body", "up-a", *last],
        "b": [*common, None, b"body", "up-b", *last],
    }
    assert check_rows(ledger, VAULT) == []
    sealed = rows(ledger, "sealed_response")["a"][0]
    assert VAULT.open(sealed, table="orders", row="a", column="response") == b"{}"


@pytest.mark.parametrize("outcome", ["queued", "in_flight", "unknown", "not_placed"])
def test_what_the_ledger_was_not_sure_of_becomes_placed(ledger: apsw.Connection, outcome: str) -> None:
    add(ledger, "a", outcome, key_digest=b"key")
    assert ways(enter(ledger, listed("a", key_digest=b"key"))) == [("a", outcome, "placed")]
    found = rows(ledger, "outcome, version, owner, key_digest, upstream_order_id, settled_tick, http_status")["a"]
    assert found == ["placed", 4, None, b"key", "up-a", TICK, 201]
    assert check_rows(ledger, VAULT) == []


def test_entering_twice_changes_nothing_more(ledger: apsw.Connection) -> None:
    add(ledger, "a", "unknown")
    orders = [listed("a"), listed("b", key_digest=b"key"), listed("c", tenant="lost")]
    enter(ledger, *orders)
    before = rows(ledger, "*")
    again = enter(ledger, *orders)
    assert {entry.way for entry in again.entries} == {"known"} and again.tenants_made == ()
    assert rows(ledger, "*") == before


def test_an_order_that_stands_on_two_pages_is_one(ledger: apsw.Connection) -> None:
    assert [way for _, _, way in ways(enter(ledger, listed("a"), listed("a")))] == ["inserted", "known"]


def test_a_second_one_at_offergrid_is_a_duplicate_that_is_kept_in_mind(ledger: apsw.Connection) -> None:
    done = enter(ledger, listed("a", "up-1"), listed("a", "up-2"))
    assert ways(done) == [("a", None, "inserted"), ("a", "placed", "duplicate")]
    strays = ledger.execute("SELECT team_id, upstream_order_id, order_id, kind FROM strays").fetchall()
    assert strays == [(1, "up-2", "a", "duplicate")]


def test_what_contradicts_the_ledger_is_said_and_changes_nothing(ledger: apsw.Connection) -> None:
    add(ledger, "a", "rejected")
    add(ledger, "b", "placed", upstream_order_id="up-taken")
    before = rows(ledger, "*")
    done = enter(ledger, listed("a"), listed("c", "up-taken"))
    assert ways(done) == [("a", "rejected", "contradicts"), ("c", None, "contradicts")]
    assert rows(ledger, "*") == before


def test_of_two_orders_under_one_key_the_later_one_keeps_it(ledger: apsw.Connection) -> None:
    add(ledger, "old", key_digest=b"one", created_ms=NOW_MS - 5)
    add(ledger, "new", key_digest=b"two", created_ms=NOW_MS)
    enter(
        ledger,
        listed("before-new", key_digest=b"two", received_ms=NOW_MS - 3),
        listed("after-old", key_digest=b"one", received_ms=NOW_MS - 2),
        listed("last", key_digest=b"one", received_ms=NOW_MS + 1),
    )
    assert {order_id: found for order_id, (found,) in rows(ledger, "key_digest").items()} == {
        "old": None, "new": b"two", "before-new": None, "after-old": None, "last": b"one",
    }  # fmt: skip


def test_what_is_entered_settled_just_now_and_of_who_is_gone_only_the_young(ledger: apsw.Connection) -> None:
    add(ledger, "last", created_ms=NOW_MS)
    old, young = NOW_MS - TTL_MS - 1, NOW_MS - TTL_MS
    done = enter(
        ledger,
        listed("old", received_ms=old),
        listed("older", tenant="gone", received_ms=old),
        listed("young", received_ms=young),
    )
    assert [way for _, _, way in ways(done)] == ["inserted", "forgotten", "inserted"]
    assert done.tenants_made == ()
    # How long ago "old" settled only a wall clock says: its key lives once more, rather than too short.
    ticks = rows(ledger, "settled_tick")
    assert (ticks["old"][0], ticks["young"][0]) == (TICK, TICK)


def test_a_tenant_made_after_the_backup_is_made_again_suspended(ledger: apsw.Connection) -> None:
    version = SqliteDirectory(ledger).version()
    done = enter(ledger, listed("a", tenant="lost", key_digest=b"k"), listed("b", tenant="lost"))
    assert done.tenants_made == ("lost",)
    (tenant,) = [tenant for tenant in SqliteDirectory(ledger).rows().tenants if tenant.name == "lost"]
    assert (tenant.state, tenant.team) == ("suspended", "team")
    assert {tenant_id for (tenant_id,) in rows(ledger, "tenant_id").values()} == {tenant.tenant_id}
    assert SqliteDirectory(ledger).version() > version


REMOVED = "INSERT INTO removed_tenants VALUES (7, 'shop', 'shop', 1, 1)"


def owners(ledger: apsw.Connection) -> dict[str, str]:
    """Order id to the scope of the tenant that it was entered for."""
    found: list[Any] = ledger.execute(
        """SELECT order_id, scope FROM orders JOIN (
             SELECT tenant_id, coalesce(scope, name) AS scope FROM tenants
             UNION ALL SELECT tenant_id, scope FROM removed_tenants) USING (tenant_id)"""
    ).fetchall()
    return dict(found)


def made(ledger: apsw.Connection) -> dict[str, tuple[str, str]]:
    """Each tenant's name to its scope and its state."""
    return {tenant.name: (tenant.scope, tenant.state) for tenant in SqliteDirectory(ledger).rows().tenants}


def test_of_two_tenants_that_had_one_name_each_gets_its_own_orders(ledger: apsw.Connection) -> None:
    """The backup knows the first one only, which is there still, or the second one and that the first is gone."""
    old, new = listed("old", key_digest=b"k"), listed("new", scope="shop#0a1b2c3d", key_digest=b"n")
    enter(ledger, old, new)
    assert made(ledger) == {"shop": ("shop", "active"), "shop-2": ("shop#0a1b2c3d", "suspended")}
    assert owners(ledger) == {"old": "shop", "new": "shop#0a1b2c3d"}
    enter(ledger, listed("newer", scope="shop#0a1b2c3d"))
    assert owners(ledger)["newer"] == "shop#0a1b2c3d" and len(made(ledger)) == 2


def test_orders_of_a_tenant_that_was_removed_go_to_nobody_else(ledger: apsw.Connection) -> None:
    ledger.execute("UPDATE tenants SET scope = 'shop#0a1b2c3d'")
    ledger.execute(REMOVED)
    assert enter(ledger, listed("old"), listed("new", scope="shop#0a1b2c3d")).tenants_made == ()
    assert owners(ledger) == {"old": "shop", "new": "shop#0a1b2c3d"}
    assert made(ledger) == {"shop": ("shop#0a1b2c3d", "active")}


def test_where_the_name_is_free_who_had_it_last_gets_it_again(ledger: apsw.Connection) -> None:
    ledger.execute("DELETE FROM tenants")
    ledger.execute(REMOVED)
    enter(ledger, listed("new", scope="shop#0a1b2c3d"), listed("old"))
    assert owners(ledger) == {"old": "shop", "new": "shop#0a1b2c3d"}
    assert made(ledger) == {"shop": ("shop#0a1b2c3d", "suspended")}


def test_two_tenants_of_one_name_of_which_the_ledger_knows_none_are_told_apart(ledger: apsw.Connection) -> None:
    name = "n" * 63
    enter(ledger, listed("new", tenant=name, scope=name + "#0a1b2c3d"), listed("old", tenant=name))
    assert owners(ledger) == {"old": name, "new": name + "#0a1b2c3d"}
    assert made(ledger).keys() == {"shop", name, "n" * 54 + "-2"}


def test_a_tenant_whose_scope_is_its_id_is_known_by_its_name_too(ledger: apsw.Connection) -> None:
    """Its orders did not always tell its scope. A tenant that was made since is never taken for it."""
    ledger.execute("UPDATE tenants SET scope = '1'")
    enter(ledger, listed("a"), listed("b", scope="1"), listed("c", scope="shop#0a1b2c3d"))
    assert owners(ledger) == {"a": "1", "b": "1", "c": "shop#0a1b2c3d"}


def test_what_lies_in_an_earlier_account_bears_no_witness(ledger: apsw.Connection) -> None:
    add(ledger, "there", settled_ms=5, created_tick=TICK)
    ledger.execute("UPDATE teams SET account_tick = 5")
    assert witnesses(ledger, 1) == []
    add(ledger, "here", settled_ms=6, created_tick=TICK - 2 * WITNESS_MS)
    assert witnesses(ledger, 1) == [("here", "up-here")], "the last one of this account, however old"


def test_the_quarantine_ends_in_the_same_transaction_with_an_audit_row(ledger: apsw.Connection) -> None:
    enter(ledger, listed("a"))
    assert quarantine_of(ledger) is None
    (row,) = ledger.execute("SELECT who, action, subject, change FROM audit").fetchall()
    assert row[:3] == ("ops", "db rejoin", "ledger")
    assert msgspec.json.decode(str(row[3])) == {"inserted": 1, "tenantsMade": [], "unread": ["dead"]}


def test_what_fails_half_way_enters_nothing_and_the_quarantine_stays(ledger: apsw.Connection) -> None:
    ledger.execute("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(LedgerError):
        enter(ledger, listed("a"), listed("b", tenant="lost"))
    assert rows(ledger, "outcome") == {} and quarantine_of(ledger) is not None
    assert len(SqliteDirectory(ledger).rows().tenants) == 1


def test_witnesses_are_the_last_hours_placed_orders_and_the_last_one(ledger: apsw.Connection) -> None:
    assert witnesses(ledger, 1) == []
    start = 10 * WITNESS_MS
    add(ledger, "old", created_tick=start - WITNESS_MS - 1)
    assert witnesses(ledger, 1) == [("old", "up-old")]
    add(ledger, "refused", "rejected", created_tick=start)
    assert witnesses(ledger, 1) == [("old", "up-old")], "the last one, however old"
    add(ledger, "edge", created_tick=start - WITNESS_MS)
    add(ledger, "young", created_tick=start)
    assert {order_id for order_id, _ in witnesses(ledger, 1)} == {"edge", "young"}
    assert witnesses(ledger, 2) == []
