"""`ordergate audit`: what was done stands there in the order in which it was done, and what was done to it is named."""

import os
import pwd
from pathlib import Path

import pytest

from gateway.broker.administration import NewTenant
from gateway.cli import audit
from tests.cli.conftest import Program
from tests.ledger.ledger_tools import alter

ME = pwd.getpwuid(os.getuid()).pw_name
UNLOCKED = "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_cut; DROP TRIGGER audit_grows_at_its_end;"


@pytest.fixture
def with_rows(program: Program) -> Program:
    """Three rows: a team, a tenant, and that it was suspended."""
    with program.administration() as admin:
        admin.add_team("sales")
        admin.add_tenant(NewTenant(name="shop", team="sales", defaults={"weight": "1.50"}))
        admin.set_tenant_state("shop", "suspended")
    return program


def ledger(program: Program) -> Path:
    return program.folder / "var/ordergate.db"


def test_a_log_without_rows_is_whole(program: Program) -> None:
    assert program("audit", "list", "--json").value == []
    assert program("audit", "verify", "--json").value == {"ok": True, "rows": 0, "broken": None, "begins": None}


def test_rows_are_listed_the_newest_first(with_rows: Program) -> None:
    rows = with_rows("audit", "list", "--json").value
    assert [list(row) for row in rows] == [["number", "at", "who", "action", "subject", "change"]] * 3
    assert [(row["number"], row["who"], row["action"], row["subject"]) for row in rows] == [
        (3, ME, "tenant suspend", "shop"), (2, ME, "tenant add", "shop"), (1, ME, "team add", "sales"),
    ]  # fmt: skip
    assert rows[0]["change"] == {"from": {"state": "active"}, "to": {"state": "suspended"}}
    assert rows[1]["change"]["to"]["metadata"] == {"defaults": {"weight": 1.5}, "enforced": {}}
    assert all(row["at"].endswith("Z") for row in rows)
    table = with_rows.within("audit", "list").out.splitlines()
    assert table[0].split() == ["number", "at", "who", "action", "subject", "change"]
    assert [line.split()[0] for line in table[1:]] == ["3", "2", "1"] and '"weight":1.50' in table[2]


def test_a_long_log_is_read_page_by_page_and_cut_for_people(
    with_rows: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PAGE", 2)
    monkeypatch.setattr(audit, "_FOR_PEOPLE", 2)
    assert with_rows.within("audit", "list", "--json").out.count('"number"') == 3
    assert with_rows.within("audit", "list", "--json", "--limit", "1").out.count('"number"') == 1
    shown = with_rows.within("audit", "list")
    assert len(shown.out.splitlines()) == 3 and "there are more" in shown.err


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("UPDATE audit SET who = 'nobody' WHERE number = 2", 2),
        ("UPDATE audit SET at_ms = 9223372036854775807, change = CAST(x'ff1b5b' AS TEXT) WHERE number = 1", 1),
        ("DELETE FROM audit WHERE number = 2", 2),
        ("DELETE FROM audit WHERE number = 3", 3),
        ("DELETE FROM audit", 1),
    ],
)
def test_what_was_done_to_the_log_is_named_by_its_row(with_rows: Program, statement: str, number: int) -> None:
    assert with_rows.within("audit", "verify").out == "3 rows, each as it was written\n"
    alter(ledger(with_rows), f"{UNLOCKED} {statement}")
    done = with_rows("audit", "verify")
    assert (done.status, done.err) == (1, "") and done.out.startswith(f"row {number} ")
    told = with_rows("audit", "verify", "--json")
    assert told.status == 1 and f'"number":{number}' in told.out and '"ok":false' in told.out
    for form in ((), ("--json",)):  # and it can still be read
        listed = with_rows.within("audit", "list", *form)
        assert listed.status == 0 and "\x1b" not in listed.out


def test_the_log_takes_no_change_by_hand(with_rows: Program) -> None:
    for statement in (
        "UPDATE audit SET who = 'nobody' WHERE number = 2",
        "DELETE FROM audit WHERE number = 3",
        "INSERT INTO audit SELECT 2 + number, at_ms, who, action, subject, change, NULL FROM audit WHERE number = 3",
        "INSERT INTO audit SELECT 0, at_ms, who, action, subject, change, link FROM audit WHERE number = 3",
    ):
        with pytest.raises(Exception, match="audit log"):
            alter(ledger(with_rows), statement)
    assert with_rows.within("audit", "verify").status == 0
