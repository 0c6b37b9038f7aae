"""The audit log is a chain: what is done to it by hand is seen, and the first row that is not as it was is named."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.broker.vault import MasterKey, Vault
from gateway.core.audit import BEGIN, Break
from gateway.ledger.sqlite_audit import audit, begin_chain, page, verify_chain
from gateway.ledger.sqlite_engine import connect, transaction
from tests.ledger.ledger_tools import CLOCK, VAULT

ROWS: Final = 6
COLUMNS: Final = ("number", "at_ms", "who", "action", "subject", "change", "link")
END: Final = "SELECT value FROM meta WHERE name = 'audit_end'"
SET_END: Final = "UPDATE meta SET value = ? WHERE name = 'audit_end'"


def write(connection: apsw.Connection, subject: str = "shop") -> None:
    change = {"to": {"a": 1.50}}
    audit(connection, VAULT, at_ms=1000, who="ops", action="tenant add", subject=subject, change=change)


class Log:
    """A log of some rows, of which two tell the same, in a transaction that takes back what is done to it.

    `ends`: what stood as its end after each row; `whole`: the log with its end, after each row.
    """

    def __init__(self, path: Path) -> None:
        self.connection = connect(path)
        begin_chain(self.connection, VAULT, 0, new=True)
        self.ends, self.whole = [self.end()], [self.all()]
        for number in range(ROWS):
            write(self.connection, "shop" if number < 2 else f"shop-{number}")
            self.ends.append(self.end())
            self.whole.append(self.all())
        triggers: list[Any] = self.connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'audit'"
        ).fetchall()
        assert len(triggers) == 3
        self.connection.execute("SAVEPOINT whole")
        for (name,) in triggers:
            self.connection.execute(f"DROP TRIGGER {name}")
        self.connection.execute("SAVEPOINT unlocked")

    def restore(self) -> None:
        self.connection.execute("ROLLBACK TO unlocked")

    def end(self) -> str:
        return str(self.connection.execute(END).get)

    def all(self) -> tuple[Any, ...]:
        texts = ", ".join(f"CAST({name} AS BLOB)" for name in ("who", "action", "subject", "change"))
        rows = self.connection.execute(f"SELECT number, at_ms, {texts}, link FROM audit ORDER BY number").fetchall()  # noqa: S608 - of ours
        return (rows, self.end())

    def do(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement, values)

    def broken(self) -> Break | None:
        return verify_chain(self.connection, VAULT).broken

    def first_bad(self) -> int | None:
        found = self.broken()
        return None if found is None else found.number


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    log = Log(tmp_path_factory.mktemp("audit") / "o.db")
    yield log
    log.connection.close()


@pytest.fixture
def log(shared: Log) -> Log:
    shared.restore()
    return shared


def test_a_log_that_nobody_touched_verifies(log: Log) -> None:
    found = verify_chain(log.connection, VAULT)
    assert (found.rows, found.broken, found.begins) == (ROWS, None, None)


OTHER: Final[dict[str, list[str]]] = {
    "at_ms": ["at_ms + 1", "at_ms - 1", "-at_ms", "9223372036854775807"],
    "who": ["''", "who || ' '", "'root'", "CAST(x'ff' AS TEXT)", "who || char(0)"],
    "action": ["'tenant remove'", "upper(action)", f"'{BEGIN}'"],
    "subject": ["''", "subject || subject", "substr(subject, 1, 3)"],
    "change": ["'{}'", "change || ' '", "replace(change, '1.5', '1.50')"],
    "link": ["NULL", "x''", "zeroblob(32)", "substr(link, 1, 31)", "CAST(link || x'00' AS BLOB)"],
}


@pytest.mark.parametrize("number", range(1, ROWS + 1))
@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in OTHER.items() for value in values])
def test_a_row_with_any_other_value_is_named(log: Log, number: int, column: str, value: str) -> None:
    before = log.all()
    log.do(f"UPDATE audit SET {column} = {value} WHERE number = {number}")  # noqa: S608 - of ours
    assert (log.first_bad() == number) == (log.all() != before)


def test_every_column_is_changed_here() -> None:
    assert set(OTHER) | {"number"} == set(COLUMNS)


@pytest.mark.parametrize("number", range(1, ROWS + 1))
def test_a_row_that_is_taken_out_is_named(log: Log, number: int) -> None:
    log.do("DELETE FROM audit WHERE number = ?", number)
    found = log.broken()
    assert found is not None and found.number == number and "is missing" in found.what


@pytest.mark.parametrize("number", range(1, ROWS + 1))
def test_a_row_that_is_taken_out_and_the_others_moved_up_is_named(log: Log, number: int) -> None:
    log.do("DELETE FROM audit WHERE number = ?", number)
    log.do("UPDATE audit SET number = number - 1 WHERE number > ?", number)
    assert log.first_bad() == number


@pytest.mark.parametrize("number", range(1, ROWS + 2))
def test_a_row_that_is_put_in_is_named(log: Log, number: int) -> None:
    """Wherever it is put in, and whatever it is a copy of."""
    for of in range(1, ROWS + 1):
        log.restore()
        log.do("UPDATE audit SET number = -number WHERE number >= ?", number)
        log.do("UPDATE audit SET number = 1 - number WHERE number < 0")
        copied = of if of < number else of + 1
        log.do(
            f"INSERT INTO audit SELECT {number}, at_ms, who, action, subject, change, link FROM audit WHERE number = ?",  # noqa: S608 - of ours
            copied,
        )
        same = of == number  # the row itself in its place, and then once more
        assert log.first_bad() == (number + 1 if same else number)


@pytest.mark.parametrize("number", [0, -1, -(2**63)])
def test_a_row_before_the_first_is_named(log: Log, number: int) -> None:
    log.do(f"INSERT INTO audit SELECT {number}, at_ms, who, action, subject, change, link FROM audit LIMIT 1")  # noqa: S608 - of ours
    assert log.first_bad() == number


@pytest.mark.parametrize("first", range(1, ROWS))
@pytest.mark.parametrize("links", [True, False], ids=["with their links", "without"])
def test_the_first_of_two_rows_that_changed_places_is_named(log: Log, first: int, links: bool) -> None:
    for second in range(first + 1, ROWS + 1):
        log.restore()
        moved = ("at_ms", "who", "action", "subject", "change", *(["link"] if links else []))
        columns = ", ".join(moved)
        log.do(
            f"""UPDATE audit SET ({columns}) = (
                  SELECT {columns} FROM audit AS other WHERE other.number = iif(audit.number = ?1, ?2, ?1))
                WHERE number IN (?1, ?2)""",  # noqa: S608 - of ours
            first,
            second,
        )
        alike = not links and (first, second) == (1, 2)  # two rows that tell the same
        assert log.first_bad() == (None if alike else first)


def test_a_letter_that_moved_to_the_next_column_is_seen(log: Log) -> None:
    log.do("UPDATE audit SET who = who || substr(action, 1, 1), action = substr(action, 2) WHERE number = 4")
    assert log.first_bad() == 4


def test_a_row_of_another_history_of_the_same_log_is_seen(log: Log) -> None:
    """As after a restore: the rows up to there are the same, and each of the two was written by the gateway."""
    log.do("SAVEPOINT common")
    write(log.connection, "one")
    (row,) = log.connection.execute("SELECT * FROM audit WHERE number = ?", (ROWS + 1,)).fetchall()
    log.do("ROLLBACK TO common")
    for subject in ("other", "further"):
        write(log.connection, subject)
    assert log.first_bad() is None
    log.do("DELETE FROM audit WHERE number = ?", ROWS + 1)
    log.do("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
    assert log.first_bad() == ROWS + 2, "it is genuine itself: what does not follow from it is the next one"


@pytest.mark.parametrize("kept", range(ROWS))
def test_an_end_that_was_put_back_names_the_first_row_behind_it(log: Log, kept: int) -> None:
    log.do(SET_END, log.ends[kept])
    found = log.broken()
    assert found is not None and found.number == kept + 1 and "behind the log's end" in found.what


@pytest.mark.parametrize(
    "end",
    ["'{}'", "''", "x'ff'", "5", "replace(value, '6', '7')", "upper(value)", "substr(value, 2)", "value || ' '"],
)
def test_an_end_that_is_none_is_named(log: Log, end: str) -> None:
    before = log.end()
    log.do(f"UPDATE meta SET value = {end} WHERE name = 'audit_end'")  # noqa: S608 - of ours
    assert log.first_bad() == (None if log.end().strip() == before else ROWS + 1)


def test_an_end_that_was_taken_away_is_named(log: Log) -> None:
    log.do("DELETE FROM meta WHERE name = 'audit_end'")
    assert log.first_bad() == ROWS + 1


def test_another_master_keys_log_is_not_this_ones(log: Log) -> None:
    other = Vault(MasterKey(bytes(32)), CLOCK)
    found = verify_chain(log.connection, other).broken
    assert found is not None and found.number == 1


def damage() -> st.SearchStrategy[Callable[[Log], None]]:
    number, anywhere = st.integers(1, ROWS), st.integers(-2, ROWS + 3)

    def copy(of: int, to: int, column: str) -> Callable[[Log], None]:
        return lambda log: log.do(
            f"UPDATE OR IGNORE audit SET {column} = (SELECT {column} FROM audit AS other WHERE other.number = ?)"  # noqa: S608 - of ours
            " WHERE number = ? AND EXISTS (SELECT 1 FROM audit AS other WHERE other.number = ?)",
            of, to, of,
        )  # fmt: skip

    return st.one_of(
        st.builds(lambda at: lambda log: log.do("DELETE FROM audit WHERE number = ?", at), number),
        st.builds(lambda at: lambda log: log.do("DELETE FROM audit WHERE number > ?", at), number),
        st.builds(copy, number, number, st.sampled_from([name for name in COLUMNS if name != "number"])),
        st.builds(
            lambda at, to: lambda log: log.do("UPDATE OR IGNORE audit SET number = ? WHERE number = ?", to, at),
            number,
            anywhere,
        ),
        st.builds(
            lambda at, to: (
                lambda log: log.do(
                    """INSERT OR IGNORE INTO audit
                   SELECT ?, at_ms, who, action, subject, change, link FROM audit WHERE number = ?""",
                    to,
                    at,
                )
            ),
            number,
            anywhere,
        ),
        st.builds(
            lambda at, text: lambda log: log.do("UPDATE audit SET subject = ? WHERE number = ?", text, at),
            number,
            st.text(st.characters(codec="utf-8"), max_size=8),
        ),
        st.builds(lambda kept: lambda log: log.do(SET_END, log.ends[kept]), st.integers(0, ROWS)),
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(damage(), min_size=1, max_size=4))
def test_only_a_log_that_once_was_verifies(shared: Log, done: list[Callable[[Log], None]]) -> None:
    """Whatever is done to it, in whatever order. That it was put back as a whole nothing in the ledger itself can show:
    the rows and their end then are as they were.
    """
    shared.restore()
    for change in done:
        change(shared)
    found = verify_chain(shared.connection, VAULT)
    now = shared.all()
    assert (found.broken is None) == (now in shared.whole), (found, now)
    if found.broken is not None:
        rows, (was, _) = {row[0]: row for row in now[0]}, shared.whole[-1]
        at = found.broken.number
        assert [rows[number] for number in sorted(rows) if number < at] == was[: max(at - 1, 0)]
        assert rows.get(at) not in was or now[1] != shared.ends[-1], "it is as it was"


def test_what_is_written_behind_a_log_that_is_not_whole_does_not_heal_it(log: Log) -> None:
    for spoil, number in (
        ("UPDATE audit SET who = 'x' WHERE number = 3", 3),
        ("UPDATE audit SET who = 'x' WHERE number = 6", 6),
        ("DELETE FROM audit WHERE number = 6", 6),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET link = NULL WHERE number = 6", 6),
        ("DELETE FROM meta WHERE name = 'audit_end'", 7),
        ("UPDATE meta SET value = replace(value, '6', '4') WHERE name = 'audit_end'", 7),
    ):
        log.restore()
        log.do(spoil)
        for _ in range(2):
            audit(log.connection, VAULT, at_ms=5, who="ops", action="team add", subject="late", change={})
            assert log.first_bad() == number, spoil
        newest, *_ = page(log.connection, before=None, limit=1)
        assert newest.number == ROWS + 2 or spoil == "DELETE FROM audit"


# -- a ledger that is older than the chain


def older(path: Path, rows: int) -> apsw.Connection:
    """A ledger whose log was written before it was a chain."""
    connection = connect(path)
    connection.execute("DROP TRIGGER audit_grows_at_its_end")
    for number in range(1, rows + 1):
        connection.execute(
            "INSERT INTO audit (at_ms, who, action, subject, change) VALUES (?, 'ops', 'order resolve', 'o', '{}')",
            (number,),
        )
    connection.execute("INSERT INTO meta (name, value) VALUES ('audit_unlinked', 1)")
    return connection


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_an_older_log_is_linked_once_and_says_so(tmp_path: Path, rows: int) -> None:
    connection = older(tmp_path / "o.db", rows)
    for _ in range(2):
        with transaction(connection):
            begin_chain(connection, VAULT, 9, new=False)
    found = verify_chain(connection, VAULT)
    assert (found.rows, found.broken, found.begins) == (rows + 1, None, rows + 1)
    (begun,) = page(connection, before=None, limit=1)
    assert (begun.action, begun.change) == (BEGIN.encode(), b'{"to":{"rowsBefore":%d}}' % rows)
    write(connection)
    assert verify_chain(connection, VAULT).broken is None
    connection.close()


def test_the_first_row_behind_an_older_log_links_it_too(tmp_path: Path) -> None:
    connection = older(tmp_path / "o.db", 2)
    write(connection)
    assert [row.action for row in page(connection, before=None, limit=9)][:2] == [b"tenant add", BEGIN.encode()]
    assert verify_chain(connection, VAULT).broken is None
    connection.close()


def test_a_log_is_not_linked_anew_to_hide_what_was_done_to_it(tmp_path: Path) -> None:
    """Who can write the ledger can make it look older than the chain. Then that is what the log says from then on."""
    connection = connect(tmp_path / "o.db")
    begin_chain(connection, VAULT, 0, new=True)
    for _ in range(3):
        write(connection)
    connection.execute("INSERT INTO meta (name, value) VALUES ('audit_unlinked', 1)")
    connection.execute("DROP TRIGGER audit_is_not_changed; UPDATE audit SET who = 'x' WHERE number = 2")
    with transaction(connection):
        begin_chain(connection, VAULT, 9, new=False)
    found = verify_chain(connection, VAULT)
    assert found.broken is not None and found.broken.number == 2
    connection.execute("DELETE FROM meta WHERE name = 'audit_end'")
    connection.execute("INSERT INTO meta (name, value) VALUES ('audit_unlinked', 1)")
    with transaction(connection):
        begin_chain(connection, VAULT, 9, new=False)
    assert verify_chain(connection, VAULT).begins == 4
    connection.close()
