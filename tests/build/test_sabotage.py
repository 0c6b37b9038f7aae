"""`make sabotage` calls a defect caught only where a test failed, and leaves nothing of it behind."""

from pathlib import Path
from typing import Final

import pytest

from tests.sabotage.defect import Defect
from tests.sabotage.run import try_one

PROGRAM: Final = "VALUE = 1\n\n\ndef value() -> int:\n    return VALUE\n"
TESTS: Final = """
from program import value

def test_value() -> None:
    assert value() == 1
"""


@pytest.mark.parametrize(
    ("by", "test", "caught"),
    [
        ("return 2", "test_value", True),
        ("return VALUE + 0", "test_value", False),
        ("return", "test_value", True),
        ("return )", "test_value", False),
        ("return VALUE\n\n\nimport nowhere", "test_value", False),
        ("return 2", "test_nothing", False),
    ],
    ids=["seen", "not seen", "seen as well", "no program", "no import", "no test"],
)
def test_only_a_test_that_fails_catches(tmp_path: Path, by: str, test: str, caught: bool) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    (tmp_path / "test_program.py").write_text(TESTS)
    defect = Defect(name="a", file="program.py", text="return VALUE", by=by, test=f"test_program.py::{test}")
    verdict = try_one(tmp_path, 1, defect)
    assert verdict.caught == caught, verdict.told
    assert program.read_text() == PROGRAM
    healthy = Defect(
        name="b", file="program.py", text="return VALUE", by="return 1", test="test_program.py::test_value"
    )
    assert try_one(tmp_path, 1, healthy).code == 0, "what was compiled of the defect is believed no more"
