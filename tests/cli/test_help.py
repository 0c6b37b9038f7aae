"""The program explains itself."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from gateway import __version__
from gateway.cli.main import ordergate
from gateway.cli.program import Command
from tests.cli.conftest import Program

EXPECTED = {
    "team": {"add", "list", "remove"},
    "key": {"add", "list", "verify", "activate", "revoke"},
    "tenant": {"add", "list", "show", "suspend", "resume", "metadata", "remove"},
    "token": {"issue", "list", "revoke"},
    "orders": {"list", "show", "reconcile", "resolve"},
    "audit": {"list", "verify"},
    "secrets": {"rotate"},
    "db": {"check", "backup", "restore", "rejoin"},
    "config": {"check", "show"},
}


def verbs(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, *path, name)
        else:
            yield (*path, name), command


EVERY = dict(verbs(ordergate))


def test_there_are_these_commands_and_no_others() -> None:
    wanted = {(group, verb) for group, group_verbs in EXPECTED.items() for verb in group_verbs}
    assert set(EVERY) == wanted | {("apply",), ("doctor",), ("serve",), ("sandbox",), ("demo",)}


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_says_what_the_command_does_and_gives_an_example_of_it(path: tuple[str, ...]) -> None:
    command = EVERY[path]
    assert isinstance(command, Command)
    shown = CliRunner().invoke(ordergate, [*path, "--help"]).stdout
    what, example = shown.splitlines()[2].strip(), shown.rstrip().splitlines()[-1].strip()
    assert what.rstrip(".")
    assert " ".join(("ordergate", *path)) in example
    for option in ("--config", "--json"):
        assert option in shown
    assert "--traceback" not in shown


def test_root_names_every_group_the_settings_and_completion(program: Program) -> None:
    done = program("--help")
    alone = ("apply", "doctor", "serve", "sandbox", "demo")
    for said in (*EXPECTED, *alone, "$ORDERGATE_CONFIG", "_ORDERGATE_COMPLETE"):
        assert said in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 100
    assert "..." not in done.out.partition("\n")[2], "a line of help is cut off"


def test_version_and_completion(program: Program) -> None:
    assert __version__ in program("--version").out
    assert "complete" in program(_ORDERGATE_COMPLETE="bash_source").out
    words = program(_ORDERGATE_COMPLETE="bash_complete", COMP_WORDS="ordergate tenant me", COMP_CWORD="2")
    assert words.out == "plain,metadata\n"


def test_help_loads_neither_storage_nor_web_framework() -> None:
    code = (
        "import sys, gateway.cli.main\n"
        "slow = {'litestar', 'uvicorn', 'httpx', 'apsw', 'cryptography', 'rich'} & set(sys.modules)\n"
        "print(sorted(slow))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
