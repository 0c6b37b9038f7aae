"""Files and functions stay small enough to be read in one go."""

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from tests.rules.source import Source, python, report, sample

FILE_LINES: Final = 300
FUNCTION_LINES: Final = 60


def too_long(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        lines = len(source.text.splitlines())
        if lines > FILE_LINES:
            yield f"{source.path}: {lines} lines, at most {FILE_LINES}: a new concern gets a new file"
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                yield (
                    f"{source.at(node)}: {node.name} has {length} lines, at most {FUNCTION_LINES}: "
                    "name its steps, and keep the branches in the parent"
                )


def test_long_file_and_long_function_are_refused() -> None:
    function = "def f() -> None:\n" + "    pass\n" * FUNCTION_LINES
    assert len(list(too_long([sample("gateway/a.py", function)]))) == 1
    assert len(list(too_long([sample("gateway/a.py", "async " + function)]))) == 1
    assert len(list(too_long([sample("gateway/a.py", "x = 1\n" * (FILE_LINES + 1))]))) == 1


def test_largest_allowed_file_and_function_are_fine() -> None:
    report(too_long([sample("gateway/a.py", "def f() -> None:\n" + "    pass\n" * (FUNCTION_LINES - 1))]))
    report(too_long([sample("gateway/a.py", "x = 1\n" * FILE_LINES)]))


def test_hand_written_files_and_functions_are_short() -> None:
    report(too_long(python("gateway", "codegen")))
