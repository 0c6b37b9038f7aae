"""No row of the error table is forgotten: each problem type that there is has a test that is named after it."""

import ast
import re
from pathlib import Path
from typing import Final

from gateway.web.described import problem_types

FOLDERS: Final = (Path(__file__).parent, Path(__file__).parents[1] / "web")
NAMED: Final = re.compile(r"test_(\d{3}|4xx)_(\w+)")


def _tested() -> set[tuple[str, str]]:
    """Status and name as the tests' names have them; several statuses of one type are several rows."""
    found = set()
    for folder in FOLDERS:
        for file in folder.glob("test_*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                named = NAMED.fullmatch(node.name) if isinstance(node, ast.FunctionDef) else None
                if named:
                    found.add((named[1], named[2]))
    return found


def test_every_problem_type_has_a_test_named_after_it() -> None:
    tested = _tested()
    lacking = []
    for kind, classes in problem_types().items():
        for problem in classes:
            status = "4xx" if kind == "order-rejected" else str(problem.status)
            name = kind.replace("-", "_")
            if not any(code == status and (rest + "_").startswith(f"{name}_") for code, rest in tested):
                lacking.append(f"test_{status}_{name}")
    assert not lacking
