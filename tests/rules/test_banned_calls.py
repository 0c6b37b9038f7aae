"""What may be called only in few places: time and randomness, print, opening a secret, SQL made of pieces."""

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from tests.rules.source import Source, dotted, dotted_names, python, report, sample

CLOCK: Final = "gateway/clock.py"
# A name ending in a dot stands for everything below it.
TIME_AND_CHANCE: Final = (
    "time.",
    "random.",
    "secrets.",
    "os.urandom",
    "os.getrandom",
    "uuid.uuid",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
)
WHY_CLOCK: Final = (
    f"time, ids and randomness come from {CLOCK} alone, handed in as a Clock, so that tests can advance it and a "
    "run can be repeated (for comparing secrets: hmac.compare_digest)"
)
MAY_OPEN_A_SECRET: Final = frozenset({"gateway/broker/vault.py", "gateway/upstream/transport.py"})
SQL: Final = re.compile(
    r"\b(select\b.+\bfrom|insert\s+(or\s+\w+\s+)?into|update\s+\S+\s+set|delete\s+from|replace\s+into|pragma\s"
    r"|(create|alter|drop)\s+(table|index|view|trigger|unique|schema)|where\s|values\s*\(|order\s+by|returning\s)",
    re.IGNORECASE | re.DOTALL,
)


def is_banned(name: str) -> bool:
    if name.startswith("uuid.uuid"):
        return True
    return any(name == ban or (ban.endswith(".") and name.startswith(ban)) for ban in TIME_AND_CHANCE)


def stray_time_and_chance(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.path == CLOCK or source.path.startswith("gateway/sandbox/"):
            continue
        names = dotted_names(source.tree)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                found = next(
                    (f"{node.module}.{a.name}" for a in node.names if is_banned(f"{node.module}.{a.name}")), ""
                )
            elif isinstance(node, ast.Attribute):
                found = dotted(node, names)
                found = found if is_banned(found) else ""
                if node.attr == "time" and "loop" in ast.unparse(node.value):
                    found = "the event loop's time"
            else:
                continue
            if found:
                yield f"{source.at(node)}: {found}: {WHY_CLOCK}"


def stray_prints(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.path.startswith("gateway/cli/"):
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield f"{source.at(node)}: print: standard output belongs to gateway/cli; the rest returns or logs"


def opened_secrets(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        if source.path in MAY_OPEN_A_SECRET:
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and node.attr == "reveal":
                yield (
                    f"{source.at(node)}: opens a Secret: only {' and '.join(sorted(MAY_OPEN_A_SECRET))} may, so "
                    "that two files are all that must be read to know where a key can go"
                )


def pieced_sql(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        fixed = {node for statement in source.tree.body for node in fixed_texts(statement)}
        for node in ast.walk(source.tree):
            if node in fixed:
                continue
            if isinstance(node, ast.expr) and (text := pieces(node)) is not None and SQL.search(text):
                yield (
                    f"{source.at(node)}: SQL put together from pieces: values are bound as parameters, and a "
                    "statement is one text that can be read and searched for"
                )


def fixed_texts(statement: ast.stmt) -> Iterator[ast.expr]:
    """A module's f-strings of its own CONSTANTS: put together at import, when no value from outside is there."""
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    if isinstance(value, ast.JoinedStr):
        parts = [part.value for part in value.values if isinstance(part, ast.FormattedValue)]
        if all(isinstance(part, ast.Name) and part.id.isupper() for part in parts):
            yield value


def pieces(node: ast.expr) -> str | None:
    """The fixed text of an expression that puts a string together at run time; None for any other expression."""
    if isinstance(node, ast.JoinedStr) and any(isinstance(part, ast.FormattedValue) for part in node.values):
        return " x ".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)) + " "
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return " x ".join(_texts(node.left, node.right)) + " "
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join"):
        return " x ".join(_texts(node.func.value, *node.args)) + " "
    return None


def _texts(*nodes: ast.expr) -> list[str]:
    found = (inner.value for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Constant))
    return [value for value in found if isinstance(value, str)]


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.time()",
        "import time as t\nt.sleep(1)",
        "from time import monotonic",
        "from datetime import UTC, datetime\nnow = datetime.now(UTC)",
        "import datetime as dt\nnow = dt.datetime.utcnow()",
        "import random\nrandom.random()",
        "from secrets import token_hex",
        "from os import urandom",
        "import os\nos.urandom(16)",
        "import uuid\nuuid.uuid4()",
        "from uuid import uuid7",
        "import asyncio\nasyncio.get_running_loop().time()",
        "def f(self) -> None:\n    self._loop.time()",
    ],
)
def test_time_and_chance_outside_the_clock_are_refused(text: str) -> None:
    assert list(stray_time_and_chance([sample("gateway/upstream/a.py", text)]))
    assert not list(stray_time_and_chance([sample(CLOCK, text)]))


def test_harmless_relatives_of_time_and_chance_are_fine() -> None:
    text = """
        import uuid
        from datetime import UTC, datetime
        moment = datetime.fromtimestamp(0, UTC)
        name = uuid.UUID(int=0)
        clock.monotonic()
        os.path.join("a", "b")
    """
    report(stray_time_and_chance([sample("gateway/core/a.py", text)]))


def test_print_and_opened_secret_are_refused_where_they_do_not_belong() -> None:
    for rule, text, at_home in (
        (stray_prints, 'print("x")', "gateway/cli/main.py"),
        (opened_secrets, "key.reveal()", "gateway/broker/vault.py"),
        (opened_secrets, "opener = key.reveal", "gateway/upstream/transport.py"),
    ):
        assert len(list(rule([sample("gateway/web/a.py", text)]))) == 1
        report(rule([sample(at_home, text)]))


@pytest.mark.parametrize(
    "text",
    [
        'db.execute(f"SELECT * FROM orders WHERE id = {order_id}")',
        "db.execute(\"SELECT * FROM orders WHERE id = '%s'\" % order_id)",
        'db.execute("delete from orders where id = " + order_id)',
        'db.execute("UPDATE {} SET a = 1".format(table))',
        'db.execute(" ".join(["INSERT INTO orders", "VALUES (?)"]))',
        'query = BASE + " ORDER BY seq"',
        'def page(columns):\n    return f"SELECT {COLUMNS} FROM orders"',
        'PAGE = f"SELECT * FROM orders WHERE id = {wanted}"',
        'db.execute(f"PRAGMA user_version = {version}")',
    ],
)
def test_sql_from_pieces_is_refused(text: str) -> None:
    assert list(pieced_sql([sample("gateway/ledger/a.py", text)]))


def test_bound_parameters_and_other_strings_are_fine() -> None:
    text = """
        db.execute("SELECT * FROM orders " "WHERE id = ?", (order_id,))
        _PAGE: Final = f"SELECT {_COLUMNS} FROM orders WHERE seq < ?"
        message = f"cannot open {path}: select another place"
        total = 1 + 2
    """
    report(pieced_sql([sample("gateway/ledger/a.py", text)]))


def test_gateway_takes_time_and_chance_from_its_clock() -> None:
    report(stray_time_and_chance(python("gateway")))


def test_only_the_command_line_prints() -> None:
    report(stray_prints(python("gateway")))


def test_only_two_files_open_secrets() -> None:
    report(opened_secrets(python("gateway")))


def test_ledger_binds_its_parameters() -> None:
    report(pieced_sql(python("gateway/ledger")))
