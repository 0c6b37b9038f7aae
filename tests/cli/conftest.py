"""The program as it is run: a process of its own, in a folder of its own, with nothing set but what a test sets."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from gateway.broker.administration import Administration
from gateway.cli.main import ordergate
from gateway.settings import Settings, load_settings
from gateway.wiring import open_administration
from tests.support.needs import ROOT

COMMAND = (sys.executable, "-m", "gateway.cli.main")


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A command that ended."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """The one JSON value on standard output, of a command that succeeded without a word beside it."""
        assert (self.status, self.err) == (0, ""), self
        return json.loads(self.out)


class Program:
    """Runs commands in `folder`. `environ` holds what is set beside the ports, which are any free ones."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ORDERGATE_", "PYTHON"))}
        ports = {"ORDERGATE_TENANT_API__PORT": "0", "ORDERGATE_ADMIN_API__PORT": "0"}
        self.environ = {**clean, "PYTHONPATH": str(ROOT), **ports, **(environ or {})}

    def __call__(self, *arguments: str, typed: str = "", **environ: str) -> Done:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(status=done.returncode, out=done.stdout, err=done.stderr)

    def within(self, *arguments: str, typed: str = "") -> Done:
        """The same in the test's own process: for many small cases, where starting a process each would take long."""
        environ = {**self.environ, **self._absolute}
        done = CliRunner(env=environ).invoke(ordergate, arguments, input=typed, catch_exceptions=False)
        return Done(status=done.exit_code, out=done.stdout, err=done.stderr)

    @contextmanager
    def started(self, *arguments: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
        """A command that goes on until it is told to end; killed if it is not gone at the end of the block."""
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    @property
    def settings(self) -> Settings:
        """As the commands read them, with absolute paths, since the test runs in another folder."""
        return load_settings(None, {**self.environ, **self._absolute})

    @property
    def _absolute(self) -> dict[str, str]:
        return {
            "ORDERGATE_STORAGE__URL": f"sqlite:///{self.folder / 'var/ordergate.db'}",
            "ORDERGATE_SECRETS__MASTER_KEY_FILE": str(self.folder / "var/master.key"),
        }

    @contextmanager
    def administration(self) -> Iterator[Administration]:
        """The same storage without the program, to prepare it and to look behind it."""
        with open_administration(self.settings) as found:
            yield found


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)
