"""Imports point one way. The map of the rooms is in `gateway/__init__.py`."""

import ast
from collections.abc import Iterable, Iterator
from typing import Final

import pytest

from tests.rules.source import Source, python, report, sample

# From the outside in: a room may import the rooms of every later row, and none of its own row or of an earlier one.
LAYERS: Final = (
    ("cli",),
    ("wiring",),
    ("web",),
    ("flow",),
    ("broker", "ledger", "upstream", "telemetry"),
    ("core",),
    ("settings",),
    ("errors", "clock"),
)
DEPTH: Final = {room: depth for depth, row in enumerate(LAYERS) for room in row}
MAY_IMPORT_GENERATED: Final = frozenset({"web", "upstream", "core"})
WHY: Final = (
    "imports point inwards only, so that each room can be read, tested and replaced without the rooms above it; "
    "state the Protocol that is needed here and let gateway/wiring.py connect"
)


def room_of(module: str) -> str:
    """ "gateway.core.outcome" → "core". One room may be several files: gateway/settings_reader.py is "settings"."""
    parts = module.split(".")
    if len(parts) < 2:
        return ""
    return "cli" if parts[1] == "__main__" else parts[1].split("_")[0]


def imports(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """Every module that the file imports, at its top or within a function, relative imports made absolute."""
    package = source.path.removesuffix(".py").removesuffix("/__init__").split("/")
    if not source.path.endswith("/__init__.py"):
        package = package[:-1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node, f"{base}.{alias.name}") for alias in node.names)


def wrong_imports(sources: Iterable[Source]) -> Iterator[str]:
    for source in sources:
        home = room_of(source.path.removesuffix(".py").replace("/", "."))
        if home not in DEPTH and home not in ("sandbox", "init", ""):
            yield f"{source.path}: belongs to no room. Put it into one, or give it a row in LAYERS: {WHY}."
            continue
        for node, module in imports(source):
            if complaint := fault(home, module):
                yield f"{source.at(node)}: {complaint}"


def fault(home: str, module: str) -> str:
    top, target = module.split(".", maxsplit=1)[0], room_of(module)
    if top in ("codegen", "tests", "bench"):
        return f"imports {top}, which is not there where the program runs"
    if top == "generated" and home not in MAY_IMPORT_GENERATED:
        return (
            f"{home} imports generated: only {', '.join(sorted(MAY_IMPORT_GENERATED))} speak OfferGrid's language"
        )
    if top != "gateway" or home == target:
        return ""
    if home == "sandbox":
        return f"the sandbox imports {module}: it stands for OfferGrid and shares no code with what it judges"
    if target == "sandbox":
        return (
            "" if home == "cli" else f"{home} imports the sandbox: a part of the program would rely on a stand-in"
        )
    if target not in DEPTH:
        return ""  # the package itself: gateway.__version__
    return "" if DEPTH[home] < DEPTH[target] else f"{home} imports {target}: {WHY}"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("gateway/core/a.py", "from gateway.ledger.interface import Ledger"),
        ("gateway/core/a.py", "from gateway import web"),
        ("gateway/core/a.py", "from ..web import problems"),
        ("gateway/ledger/a.py", "import gateway.broker.vault"),
        ("gateway/flow/a.py", "def late() -> None:\n    from gateway.web import auth"),
        ("gateway/errors.py", "from gateway.clock import Clock"),
        ("gateway/settings_reader.py", "from gateway.core import tokens"),
        ("gateway/ledger/a.py", "from generated.models import CreateOrderDto"),
        ("gateway/cli/a.py", "import generated.models"),
        ("gateway/wiring.py", "from gateway.sandbox.app import main"),
        ("gateway/sandbox/app.py", "from gateway.clock import Clock"),
        ("gateway/sandbox/app.py", "from generated import operations"),
        ("gateway/web/a.py", "import codegen.generate"),
        ("gateway/helpers.py", "import json"),
    ],
)
def test_import_against_the_direction_is_refused(path: str, line: str) -> None:
    assert len(list(wrong_imports([sample(path, line)]))) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("gateway/cli/a.py", "from gateway.sandbox.app import main"),
        ("gateway/cli/__init__.py", "from .main import main"),
        ("gateway/web/a.py", "from generated.models import CreateOrderDto"),
        ("gateway/ledger/a.py", "from gateway.ledger.interface import Ledger\nfrom . import b\nfrom .b import c"),
        ("gateway/ledger/a.py", "from gateway.core.outcome import Outcome\nfrom gateway.errors import LedgerError"),
        (
            "gateway/settings_reader.py",
            "from gateway.settings import Settings\nfrom gateway.errors import BadSettings",
        ),
        ("gateway/sandbox/app.py", "from gateway.sandbox.faults import Fault"),
        ("gateway/telemetry/a.py", "from gateway import __version__"),
    ],
)
def test_import_along_the_direction_is_fine(path: str, line: str) -> None:
    report(wrong_imports([sample(path, line)]))


def test_gateway_imports_point_inwards() -> None:
    report(wrong_imports(python("gateway")))


def test_generated_code_and_its_generator_know_nothing_of_the_gateway() -> None:
    for folder in ("generated", "codegen"):
        report(
            f"{source.at(node)}: {folder} imports {module}: it must work, and be judged, without the gateway"
            for source in python(folder)
            for node, module in imports(source)
            if module.startswith("gateway")
        )
