"""The fault matrix: every fault that the gateway must stand, beside the test that shows it.

Each test in `tests/faults/` says with `@row` what it shows. The page docs/fault-matrix.md is made from that alone:

    python -m tests.faults.matrix > docs/fault-matrix.md
"""

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType
from typing import Any, Final, TypeVar

import msgspec

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parents[1] / "docs/fault-matrix.md"
# The last row of each group.
GROUPS: Final = (
    (14, "upstream network"),
    (26, "upstream protocol"),
    (44, "upstream semantics"),
    (59, "storage"),
    (71, "process"),
    (78, "tenants"),
    (86, "configuration and keys"),
)
_FACTS: Final = "fault_rows"
_INTRODUCTION: Final = """\
# The fault matrix

What can go wrong around an order, what the gateway answers, and what must hold afterwards. Each line is shown by a
test over real sockets and real files. This page is made from those tests: `python -m tests.faults.matrix`.

In every line the promise holds, counted on both sides: OfferGrid has each order at most once, every 201 stands for
an order that it has, and nothing that it has is denied.

| row | group | fault | answer; outcome | holds | test |
| --- | --- | --- | --- | --- | --- |
"""

Test = TypeVar("Test", bound=Callable[..., object])


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one test shows of one row. `part` names the case where a row has several.

    What is empty is the same as in the row's first line.
    """

    number: int
    part: str
    fault: str
    answer: str
    holds: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A row and the test that shows it."""

    row: Row
    module: str
    test: str


def row(
    number: int, *, part: str = "", fault: str = "", answer: str = "", holds: str = ""
) -> Callable[[Test], Test]:
    """Marks a test as showing that row; several above one test are several lines of the same row.

    `fault`: what happens. `answer`: status, type and outcome. `holds`: what else the test checks. Plain sentences or
    parts of one. Every row needs one line without `part` (or a first one with it) that says all three. Raises
    ValueError at import where the test's name is not `test_row_NN_…`.
    """

    def mark(test: Test) -> Test:
        if not test.__name__.startswith(f"test_row_{number:02}_"):
            raise ValueError(f"{test.__name__} shows row {number}: its name must begin with test_row_{number:02}_")
        facts = Row(number=number, part=part, fault=fault, answer=answer, holds=holds)
        # The decorator that stands first is applied last.
        test.__dict__[_FACTS] = (facts, *rows_of(test))
        return test

    return mark


def rows_of(test: Callable[..., object]) -> tuple[Row, ...]:
    """What `@row` left on a function, in the order in which it stands there."""
    found: tuple[Row, ...] = test.__dict__.get(_FACTS, ())
    return found


def group(number: int) -> str:
    return next(name for last, name in GROUPS if number <= last)


def shown() -> list[Shown]:
    """Every line of the matrix, by row, in the order of the files' names and of the tests in them."""
    found: list[Shown] = []
    for path in sorted(HERE.glob("test_*.py")):
        module: Any = importlib.import_module(f"tests.faults.{path.stem}")
        for name, test in vars(module).items():
            if isinstance(test, FunctionType) and test.__module__ == module.__name__:
                found += [Shown(row=facts, module=path.stem, test=name) for facts in rows_of(test)]
    return sorted(found, key=lambda line: (line.row.number, bool(line.row.part)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def page(lines: Iterable[Shown]) -> str:
    """The page's text; `lines` as `shown` gives them."""
    text = [_INTRODUCTION]
    last = 0
    for line in lines:
        facts = line.row
        fault = f"{facts.part}: {facts.fault}" if facts.part and facts.fault else facts.part or facts.fault
        cells = (
            str(facts.number),
            group(facts.number) if facts.number != last else "",
            fault,
            facts.answer or ("as above" if facts.number == last else ""),
            facts.holds or ("as above" if facts.number == last else ""),
            f"`{line.module}.{line.test}`",
        )
        last = facts.number
        text.append(f"| {' | '.join(map(_cell, cells))} |\n")
    return "".join(text)


if __name__ == "__main__":
    sys.stdout.write(page(shown()))
