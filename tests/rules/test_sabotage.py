"""The deliberate defects of `make sabotage` are still about this program, and their page is theirs."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.rules.source import ROOT, report
from tests.sabotage.defect import PAGE, Defect, Stale, spoiled
from tests.sabotage.every import DEFECTS, page


def stale(defects: Iterable[Defect]) -> Iterator[str]:
    for defect in defects:
        try:
            spoiled(defect)
        except Stale as fault:
            yield str(fault)


def without_a_test(defects: Iterable[Defect]) -> Iterator[str]:
    for defect in defects:
        path, _, name = defect.test.partition("::")
        file = ROOT / path
        if not file.is_file() or f"def {name}(" not in file.read_text("utf-8"):
            yield f"sabotage: {defect.test}, which must see the defect '{defect.name}', is not there any more"


def sample(**more: str) -> Defect:
    fields = {"name": "a", "file": "Makefile", "text": ".DEFAULT_GOAL", "by": "", "test": "tests/a.py::test_a"}
    return Defect(**(fields | more))


def test_a_defect_that_is_about_nothing_is_refused() -> None:
    assert len(list(stale([sample(text="no such text"), sample(file="nowhere.py"), sample(text="e")]))) == 3
    report(stale([sample()]))
    assert len(list(without_a_test([sample(), sample(test="tests/rules/test_sabotage.py::test_nothing")]))) == 2
    report(without_a_test([sample(test="tests/rules/test_sabotage.py::test_no_two_defects_are_the_same")]))


def test_every_defect_finds_the_text_that_it_replaces() -> None:
    report(stale(DEFECTS))


def test_every_defect_names_a_test_that_is_there() -> None:
    report(without_a_test(DEFECTS))


def test_no_two_defects_are_the_same() -> None:
    for told in (
        [defect.name for defect in DEFECTS],
        [(defect.file, defect.text, defect.by) for defect in DEFECTS],
    ):
        assert not [one for one, count in Counter(told).items() if count > 1]


def test_every_defect_leaves_a_program(tmp_path: Path) -> None:
    """A name that is not there would fail any test, and prove nothing."""
    for number, defect in enumerate(DEFECTS, 1):
        source = spoiled(defect)
        if defect.file.endswith(".py"):
            ast.parse(source, filename=defect.name)
            (tmp_path / f"defect_{number}.py").write_text(source, "utf-8")
    ruff: list[str | Path] = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--select",
        "F821,F822,F823",
        tmp_path,
    ]
    found = subprocess.run(ruff, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_page_says_what_the_list_says() -> None:
    assert PAGE.read_text("utf-8") == page(), "make it anew: python -m tests.sabotage.every > docs/sabotage.md"


def test_a_stale_defect_is_told_in_one_line() -> None:
    with pytest.raises(Stale, match="Makefile holds the text of the defect 'a' 0 times"):
        spoiled(sample(text="no such\ntext"))
