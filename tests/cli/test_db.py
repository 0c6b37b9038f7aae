"""`ordergate db`: what is whole is called whole, what is wrong is named, and what is refused changes nothing."""

import json
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from gateway.broker.vault import Secret
from gateway.ledger import sqlite_check
from gateway.sandbox import SandboxThread
from tests.cli.conftest import Program
from tests.ledger.ledger_tools import alter
from tests.support.stack import Stack, an_order, running_stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A gateway that has placed orders, with a key and without, and had one refused."""
    with (
        SandboxThread(per_minute=0) as sandbox,
        running_stack(upstream_base_url=sandbox.base_url) as running,
        running.client() as client,
    ):
        for number in range(3):
            order = an_order(notes=f"order {number}")
            assert client.post("/orders", json=order, headers={"idempotency-key": f"k{number}"}).status_code == 201
        assert client.post("/orders", json=an_order(items=[{"offerId": "unavailable-1"}])).status_code == 404
        yield running


@pytest.fixture
def copy(stack: Stack, tmp_path: Path) -> Program:
    """A program on a copy of that ledger, to be spoiled."""
    (tmp_path / "var").mkdir()
    beside = Program(stack.folder, stack.environ)
    done = beside.within("db", "backup", str(tmp_path / "var/ordergate.db"))
    assert done.status == 0, done
    key = tmp_path / "var/master.key"
    key.write_bytes((stack.folder / "var/master.key").read_bytes())
    key.chmod(0o600)
    return Program(tmp_path)


def ledger_of(program: Program) -> Path:
    return program.folder / "var/ordergate.db"


def found(program: Program) -> list[dict[str, Any]]:
    """What `db check` names, in a ledger that is not whole."""
    done = program("db", "check", "--json")
    assert done.status == 1 and not done.err, done
    value = json.loads(done.out)
    assert value["ok"] is False and value["findings"], value
    return list(value["findings"])


def test_whole_ledger_is_called_whole_while_its_gateway_runs(stack: Stack) -> None:
    program = Program(stack.folder, stack.environ)
    value = program("db", "check", "--json").value
    assert (value["ok"], value["orders"], value["findings"]) == (True, 4, [])
    assert program.within("db", "check").out.endswith("ordergate.db is whole; 4 orders\n")


def test_backup_is_whole_and_says_what_is_in_it(stack: Stack, tmp_path: Path) -> None:
    program, file = Program(stack.folder, stack.environ), tmp_path / "b.db"
    assert program("db", "backup", str(file), "--json").value == {
        "file": str(file), "bytes": file.stat().st_size, "orders": 4,
    }  # fmt: skip
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = program("db", "backup", str(file))
    assert again.status == 4 and "there already" in again.err and again.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["b.db"]


@pytest.mark.parametrize("verb", [("check",), ("backup", "b.db")], ids=["check", "backup"])
def test_without_a_ledger_there_is_nothing_to_do_and_none_is_made(program: Program, verb: tuple[str, ...]) -> None:
    done = program("db", *verb)
    assert (done.status, done.out) == (4, "") and "there is no ledger" in done.err
    assert list(program.folder.iterdir()) == []


SPOILED = {
    "a sealed key that was moved to another order": (
        """UPDATE orders SET sealed_idempotency_key =
             (SELECT sealed_idempotency_key FROM orders AS other WHERE other.order_id <> orders.order_id
              AND other.sealed_idempotency_key IS NOT NULL) WHERE seq = 1""",
        "sealed value in orders.idempotency_key",
    ),
    "a response put in another column": (
        "UPDATE orders SET sealed_answer = sealed_response WHERE seq = 1",
        "sealed value in orders.answer",
    ),
    "a response that is cut": (
        "UPDATE orders SET sealed_response = substr(sealed_response, 1, 20) WHERE seq = 2",
        "cut short",
    ),
    "an upstream key that is not what was sealed": (
        "DROP TRIGGER keys_stand_under_the_ledgers_master_key; UPDATE upstream_keys SET sealed_key = zeroblob(80)",
        "sealed value in upstream_keys.key",
    ),
    "a placed order without an upstream id": (
        "UPDATE orders SET upstream_order_id = NULL WHERE seq = 1",
        "placed without an upstream order id",
    ),
    "an upstream id of a refused order": (
        "UPDATE orders SET upstream_order_id = 'x' WHERE outcome = 'rejected'",
        "is not placed",
    ),
    "two orders with one upstream id": (
        """DROP INDEX one_row_an_upstream_order;
           UPDATE orders SET upstream_order_id = 'x' WHERE outcome = 'placed'""",
        "same upstream order id",
    ),
    "two orders with one key": (
        "DROP INDEX one_order_a_key; UPDATE orders SET key_digest = x'00' WHERE outcome = 'placed'",
        "same idempotency key",
    ),
    "a settled order that never settled": (
        "UPDATE orders SET settled_ms = NULL WHERE seq = 1",
        "no moment at which",
    ),
    "a settled order without a tick": (
        "UPDATE orders SET settled_tick = NULL WHERE seq = 1",
        "no tick at which",
    ),
    "a settled order that a process holds": (
        "UPDATE orders SET owner = 1 WHERE seq = 1",
        "in the hands of a process",
    ),
    "an unsettled order that settled": (
        "UPDATE orders SET outcome = 'unknown', upstream_order_id = NULL WHERE seq = 1",
        "not settled and has a moment",
    ),
    "an open attempt of a refused order": (
        """UPDATE attempts SET ended_ms = NULL
           WHERE order_id = (SELECT order_id FROM orders WHERE outcome = 'rejected')""",
        "open attempt and is settled",
    ),
    "an attempt that is gone": (
        "UPDATE attempts SET number = 2 WHERE order_id = (SELECT order_id FROM orders WHERE seq = 1)",
        "has lost an attempt",
    ),
    "an attempt of no order": (
        """PRAGMA foreign_keys = OFF; UPDATE attempts SET order_id = 'nobody'
           WHERE order_id = (SELECT order_id FROM orders WHERE seq = 1)""",
        "refers to a row of orders",
    ),
    "an unsettled order of no team": (
        """UPDATE orders SET outcome = 'unknown', settled_ms = NULL, upstream_order_id = NULL, team_id = 9
           WHERE seq = 1""",
        "belongs to a team that is not there",
    ),
    "an order in flight that nobody sent": (
        """DELETE FROM attempts;
           UPDATE orders SET outcome = 'in_flight', settled_ms = NULL, upstream_order_id = NULL WHERE seq = 1""",
        "in flight without an attempt",
    ),
    "a row of the audit log that was changed": (
        "DROP TRIGGER audit_is_not_changed; UPDATE audit SET who = 'nobody' WHERE number = 2",
        "audit 2: was changed",
    ),
    "the last row of the audit log taken out": (
        "DROP TRIGGER audit_is_not_cut; DELETE FROM audit WHERE number = (SELECT max(number) FROM audit)",
        "is missing: the log was cut off here",
    ),
    "a number where a text belongs": (
        "PRAGMA ignore_check_constraints = ON; UPDATE orders SET outcome = 'perhaps' WHERE seq = 1",
        "CHECK constraint failed",
    ),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_is_wrong_is_named(copy: Program, spoil: str) -> None:
    statement, said = SPOILED[spoil]
    before = copy.within("db", "check")
    assert before.status == 0, before
    alter(ledger_of(copy), statement)
    done = copy.within("db", "check")
    assert done.status == 1 and not done.err, done
    assert said in done.out
    assert re.search(r"^(orders|attempts|upstream_keys|audit|file)\b.*: ", done.out)


def test_every_rule_is_broken_once_here() -> None:
    said = [what for _, what in SPOILED.values()]
    for what, _ in sqlite_check._RULES:
        assert any(part in what for part in said), what


def test_every_sealed_column_is_opened(copy: Program) -> None:
    connection = apsw.Connection(str(ledger_of(copy)))
    rows: list[Any] = connection.execute(
        """SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
           WHERE tables.type = 'table' AND columns.name LIKE 'sealed\\_%' ESCAPE '\\'"""
    ).fetchall()
    connection.close()
    read = {
        (table, name)
        for table, statement, _ in sqlite_check.SEALED
        for name in re.findall(r"sealed_\w+", statement)
    }
    assert set(rows) == read and rows


def flip_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 5 : 4096 * 5 + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4096])


def noise(path: Path) -> None:
    path.write_bytes(b"\x00\xffthis is no database" * 1000)


@pytest.mark.parametrize("spoil", [flip_page, cut, noise])
def test_a_damaged_file_is_named_and_other_commands_name_the_check(
    copy: Program, spoil: Callable[[Path], None]
) -> None:
    spoil(ledger_of(copy))
    findings = found(copy)
    assert all(one["where"] == "file" for one in findings)
    backup = copy("db", "backup", str(copy.folder / "b.db"))
    assert backup.status in (1, 5) and "`ordergate db check`" in backup.err and backup.err.count("\n") == 1
    assert not (copy.folder / "b.db").exists()


def test_opening_a_file_that_is_no_ledger_names_the_check(copy: Program) -> None:
    noise(ledger_of(copy))
    for command in (("team", "list"), ("serve",)):
        done = copy(*command)
        assert done.status == 5 and "`ordergate db check`" in done.err.splitlines()[-1]


def test_a_record_that_does_not_open_names_the_check(copy: Program) -> None:
    alter(ledger_of(copy), "UPDATE orders SET sealed_response = zeroblob(80)")
    done = copy("orders", "list")
    assert done.status == 5 and "`ordergate db check`" in done.err and done.err.count("\n") == 1


def test_another_master_key_is_told_before_anything_is_read(copy: Program) -> None:
    (copy.folder / "var/master.key").write_bytes(bytes(32))
    done = copy("db", "check")
    assert (done.status, done.out) == (3, "") and "another master key" in done.err


def test_backup_of_a_file_with_another_key_beside_it_is_not_made(copy: Program) -> None:
    (copy.folder / "var/master.key").write_bytes(bytes(32))
    done = copy("db", "backup", str(copy.folder / "b.db"))
    assert done.status == 3 and not (copy.folder / "b.db").exists()


def test_a_newer_schema_is_not_judged(copy: Program) -> None:
    alter(ledger_of(copy), "PRAGMA user_version = 99")
    done = copy("db", "check")
    assert done.status == 5 and "newer" in done.err


def test_no_canary_in_a_backup(stack: Stack, tmp_path: Path) -> None:
    """What a backup holds in the clear is what a ledger does: nothing of an order, no key, no token."""
    with stack.administration() as admin:
        admin.add_key("team", Secret("sandbox-key-canary"))
    Program(stack.folder, stack.environ).within("db", "backup", str(tmp_path / "b.db"))
    content = (tmp_path / "b.db").read_bytes()
    for canary in (b"sandbox-key", b"A Customer", b"customer@example.com", stack.token.rpartition("_")[2].encode()):
        assert canary not in content
