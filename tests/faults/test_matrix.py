"""The fault matrix is whole, and its page is what the tests say."""

from itertools import groupby
from typing import Final

import pytest

from tests.faults.matrix import PAGE, Row, Shown, page, row, rows_of, shown

ROWS: Final = frozenset({*range(1, 54), *range(60, 87)})
# The rows that no test shows yet, one a line. It is exact, so that it only gets shorter: whoever adds a row's first
# test takes it from here.
MISSING: Final[frozenset[int]] = frozenset()


def test_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text("utf-8") == page(shown()), (
        "docs/fault-matrix.md is not what the tests say: python -m tests.faults.matrix > docs/fault-matrix.md"
    )


def test_every_row_has_a_test() -> None:
    there = {line.row.number for line in shown()}
    assert ROWS - there == MISSING, "take a row from MISSING with its first test; never add one"
    assert there <= ROWS, "a row that nobody asked for: add it to ROWS"


def test_every_row_is_told_in_full_once() -> None:
    for number, lines in groupby(shown(), key=lambda line: line.row.number):
        first, *more = (line.row for line in lines)
        assert first.fault and first.answer and first.holds, f"the first line of row {number} leaves something out"
        assert all(line.part for line in more), f"row {number}: each further line needs a part of its own"
        parts = [line.part for line in (first, *more)]
        assert len(set(parts)) == len(parts), f"row {number}: two lines with one part"


def test_a_name_that_does_not_tell_its_row_is_refused() -> None:
    def test_row_5_reset() -> None: ...

    with pytest.raises(ValueError, match="test_row_05_"):
        row(5)(test_row_5_reset)


def test_several_lines_of_one_test_stand_in_their_order() -> None:
    @row(5, fault="a reset", answer="502", holds="nothing")
    @row(5, part="later")
    def test_row_05_reset() -> None: ...

    rows = rows_of(test_row_05_reset)
    assert [facts.part for facts in rows] == ["", "later"]
    text = page(Shown(row=facts, module="test_a", test="test_row_05_reset") for facts in rows)
    assert text.endswith(
        "| 5 | upstream network | a reset | 502 | nothing | `test_a.test_row_05_reset` |\n"
        "| 5 |  | later | as above | as above | `test_a.test_row_05_reset` |\n"
    )


def test_a_cell_cannot_break_the_table() -> None:
    facts = Row(number=60, part="", fault="a|b\nc", answer="", holds="")
    assert "| 60 | process | a\\|b c |" in page([Shown(row=facts, module="m", test="t")])
