"""A gateway as it is run: the real program in a process of its own, on free ports, with storage of its own.

with running_stack(upstream_base_url=sandbox.base_url) as stack:
    httpx.post(stack.tenant_url + "/orders", headers=stack.bearer, json=an_order())
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from gateway.broker.administration import Administration, NewTenant
from gateway.broker.vault import Secret
from gateway.settings import Settings, load_settings
from gateway.wiring import open_administration
from tests.support.needs import ROOT

UPSTREAM_KEY = "sandbox-key-of-the-team"
SERVE: Final = ("gateway.cli.main", "serve")
"""The program as it is: a module and its arguments."""
START_WITHIN_S = 30


def an_order(**members: Any) -> dict[str, Any]:
    """A valid order; `members` are added to it or replace its own."""
    return {
        "items": [{"offerId": "test-offer-id"}],
        "serviceAddress": {
            "street": "123 Main St", "city": "San Francisco", "state": "CA", "zipCode": "94102", "country": "US",
        },
        "customerInfo": {"fullName": "A Customer", "email": "customer@example.com", "phone": "+1-555-123-4567"},
        **members,
    }  # fmt: skip


def outer_environ() -> dict[str, str]:
    """For a process of the program: what is around the tests, less what the program would read as its settings."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("ORDERGATE_")}
    return {**outer, "PYTHONPATH": str(ROOT)}


class Process:
    """One `ordergate serve`, its log lines gathered as they come.

    `program` is run instead where a test needs a gateway that something is wrong with.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path, program: Sequence[str] = SERVE) -> None:
        self.log: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", *program],
            cwd=folder,
            env={**outer_environ(), **environ},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                try:
                    self.log.append(json.loads(line))
                except ValueError:
                    self.log.append({"event": "text", "text": line.rstrip()})
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(self, event: str, within_s: float = START_WITHIN_S) -> dict[str, Any]:
        """The first log line of that event; AssertionError with the whole log where it does not come."""

        def found() -> bool:
            return any(line.get("event") == event for line in self.log) or not self._reader.is_alive()

        with self._news:
            self._news.wait_for(found, within_s)
        lines = [line for line in self.log if line.get("event") == event]
        assert lines, f"no {event!r} in {self.log}"
        return lines[0]

    def address(self, listener: str) -> str:
        place = next(line for line in self.log if line.get("event") == "listening" and line["listener"] == listener)
        return f"http://{place['host']}:{place['port']}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, within_s: float = 60) -> int:
        """The exit status."""
        status = self._process.wait(within_s)
        self._reader.join(within_s)
        if self._process.stderr is not None:
            self._process.stderr.close()
        return status

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """As a power cut of the process: nothing of it goes on."""
        self._process.kill()
        self.wait()


class Stack(msgspec.Struct, kw_only=True):
    """A gateway with team `team`, its key, tenant `shop` and a token of it."""

    folder: Path
    environ: dict[str, str]
    settings: Settings
    token: str
    process: Process
    program: Sequence[str] = SERVE

    @property
    def tenant_url(self) -> str:
        return self.process.address("tenant")

    @property
    def admin_url(self) -> str:
        return self.process.address("admin")

    @property
    def admin_token(self) -> str:
        return (self.folder / "var/admin.token").read_text()

    @property
    def bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def client(self, **options: Any) -> httpx.Client:
        """A client of the tenant `shop`."""
        headers = {**self.bearer, **options.pop("headers", {})}
        return httpx.Client(base_url=self.tenant_url, headers=headers, timeout=30, trust_env=False, **options)

    @contextmanager
    def administration(self) -> Iterator[Administration]:
        with open_administration(self.settings) as found:
            yield found

    def new_tenant(self, name: str, **options: Any) -> str:
        """A further tenant of the team; its token. The running gateway knows it within a second."""
        with self.administration() as admin:
            admin.add_tenant(NewTenant(name=name, team="team", **options))
            return admin.issue_token(name).token.text()

    def restart(self) -> None:
        """The same gateway on the same storage in a new process."""
        self.process.stop()
        self.start()

    def start(self) -> None:
        self.process = Process(self.environ, self.folder, self.program)
        self.process.wait_for("ready")


@contextmanager
def running_stack(*, upstream_base_url: str, **settings: Any) -> Iterator[Stack]:
    """`settings`: environment names without their prefix, `upstream__timeout_s=1`; and `program`, as for `Process`.

    And `beside`: called with the stack's folder before the program runs, it gives further environment.
    """
    program: Sequence[str] = settings.pop("program", SERVE)
    beside: Callable[[Path], Mapping[str, str]] = settings.pop("beside", lambda _: {})
    with tempfile.TemporaryDirectory(prefix="ordergate-") as name:
        folder = Path(name)
        environ = {
            "ORDERGATE_TENANT_API__PORT": "0",
            "ORDERGATE_ADMIN_API__PORT": "0",
            "ORDERGATE_UPSTREAM__BASE_URL": upstream_base_url,
            # Unknown orders are looked for once, at the start: a test that counts calls counts its own.
            "ORDERGATE_RECONCILE__INTERVAL_S": "86400",
            # Nor does an OfferGrid that fails as it is told stop the orders that come after.
            "ORDERGATE_UPSTREAM__BREAKER_FAILURES": "1000000",
            # And a test may send as many as it likes, unless it is about how many it may.
            "ORDERGATE_BUDGET__PER_MINUTE": "0",
            "ORDERGATE_BUDGET__PER_HOUR": "0",
            **{f"ORDERGATE_{key.upper()}": str(value) for key, value in settings.items()},
        }
        # The commands below run in this process, whose working directory is another: they need absolute paths.
        environ["ORDERGATE_STORAGE__URL"] = f"sqlite:///{folder / 'var/ordergate.db'}"
        environ["ORDERGATE_SECRETS__MASTER_KEY_FILE"] = str(folder / "var/master.key")
        loaded = load_settings(None, environ)
        with open_administration(loaded) as admin:
            admin.add_team("team")
            admin.add_key("team", Secret(UPSTREAM_KEY))
            admin.add_tenant(NewTenant(name="shop", team="team"))
            token = admin.issue_token("shop").token.text()
        environ.update(beside(folder))
        stack = Stack(
            folder=folder,
            environ=environ,
            settings=loaded,
            token=token,
            process=Process(environ, folder, program),
            program=program,
        )
        try:
            stack.process.wait_for("ready")
            yield stack
        except BaseException:  # what the test says is told, not how the process ended because of it
            stack.process.stop()
            raise
        status = stack.process.stop()
        assert status in (0, -signal.SIGKILL), f"exit {status}: {stack.process.log[-20:]}"
