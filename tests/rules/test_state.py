"""No state at module level: two gateways in one process, or two tests, share nothing."""

import ast
from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from tests.rules.source import Source, dotted, dotted_names, python, report, sample

MAKERS: Final = frozenset(
    {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict", "count", "ContextVar"}
    | {"WeakKeyDictionary", "WeakValueDictionary", "WeakSet", "local", "Lock", "RLock", "Queue", "SimpleQueue"}
)
READ_ONLY: Final = ("Mapping[", "Sequence[", "Collection[", "Iterable[", "Set[")
WHY: Final = "state belongs to an object that gateway/wiring.py builds and hands in"


def module_state(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        names = dotted_names(source.tree)
        for statement in top_level(source.tree.body):
            value = getattr(statement, "value", None)
            if (
                isinstance(statement, ast.Assign | ast.AnnAssign)
                and value
                and changeable(value)
                and open_(statement)
            ):
                yield (
                    f"{source.at(statement)}: can be changed by any importer: {WHY}. A constant is written "
                    "NAME: Final[Mapping[…]] (or Sequence, Collection, Set), a tuple or a frozenset"
                )
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Global):
                yield f"{source.at(node)}: global {', '.join(node.names)}: {WHY}"
            elif isinstance(node, ast.FunctionDef) and any(
                dotted(call.func if isinstance(call, ast.Call) else call, names)
                in ("functools.cache", "functools.lru_cache")
                for call in node.decorator_list
            ):
                yield f"{source.at(node)}: {node.name} keeps a cache for the whole process: {WHY}"


def top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Module-level statements, those under if, try and with too."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With | ast.For):
                yield from top_level(getattr(statement, field, []))


def changeable(value: ast.expr) -> bool:
    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return True
    if isinstance(value, ast.Call):
        func = value.func
        return (func.id if isinstance(func, ast.Name) else getattr(func, "attr", "")) in MAKERS
    return False


def open_(statement: ast.Assign | ast.AnnAssign) -> bool:
    """Not a constant by name and type: mypy refuses to change what is annotated as read-only."""
    if isinstance(statement, ast.Assign):
        return [ast.unparse(target) for target in statement.targets] != ["__all__"]
    name, annotation = ast.unparse(statement.target), ast.unparse(statement.annotation)
    return not (name.isupper() and any(kind in annotation for kind in READ_ONLY))


@pytest.mark.parametrize(
    "text",
    [
        "cache = {}",
        "CACHE = {}",
        "CACHE: Final = {}",
        "cache: Final[Mapping[str, int]] = {}",
        "seen: set[str] = set()",
        "waiting = collections.deque()",
        "if True:\n    names = [1]",
        "try:\n    names = []\nexcept OSError:\n    pass",
        "def f() -> None:\n    global started\n    started = True",
        "from functools import cache\n@cache\ndef f() -> int:\n    return 1",
        "import functools\n@functools.lru_cache(maxsize=1)\ndef f() -> int:\n    return 1",
    ],
)
def test_state_at_module_level_is_refused(text: str) -> None:
    assert len(list(module_state([sample("gateway/core/a.py", text)]))) == 1


def test_constants_and_state_of_objects_are_fine() -> None:
    text = """
        __all__ = ["A"]
        STATES: Final[Mapping[str, int]] = {"a": 1}
        ORDER: Sequence[str] = ["a", "b"]
        NAMES: Final = frozenset({"a"})
        PAIR = (1, 2)

        class Pool:
            def __init__(self) -> None:
                self.idle = []
                waiting: dict[str, int] = {}
    """
    report(module_state([sample("gateway/core/a.py", text)]))


def test_gateway_keeps_no_state_at_module_level() -> None:
    report(module_state(python("gateway")))
