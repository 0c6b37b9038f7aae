"""Runs of the program that cost no imports: see `tests/crash/nursery.py`. For several threads at once."""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.support.held import Held, ask
from tests.support.stack import outer_environ

WITHIN_S: Final = 60
"""How long a start or an end may take on a busy machine. Nothing depends on its being short."""


class Run:
    """One run of the program."""

    def __init__(self, log: Path, held: Path, signal_it: Callable[[signal.Signals], None]) -> None:
        self._signal = signal_it
        self._log = log
        self._held = held
        self.began = threading.Event()
        self.ended = threading.Event()
        self.pid = 0
        self.status: int | None = None

    def log(self) -> list[dict[str, Any]]:
        """Its log lines so far; what is no JSON (a warning of the interpreter, say) as an event `text`."""
        if not self._log.exists():
            return []
        whole = self._log.read_bytes().rpartition(b"\n")[0]
        return [_line(line) for line in whole.splitlines()]

    def said(self) -> str:
        """All that it said, to standard output and error."""
        return self._log.read_text()

    def ready_now(self) -> bool:
        return any(line["event"] == "ready" for line in self.log())

    def ready(self) -> bool:
        """Waits for the listeners: whether they are there, or the process ended before."""
        until = time.monotonic() + WITHIN_S
        while not self.ready_now():
            if self.ended.wait(0.003):
                return False
            assert time.monotonic() < until, f"neither ready nor ended: {self.log()}"
        return True

    def port(self, listener: str = "tenant") -> int:
        place = next(line for line in self.log() if line["event"] == "listening" and line["listener"] == listener)
        return int(place["port"])

    def kill(self) -> None:
        """Whatever it is doing, unless it is over already."""
        self.signal(signal.SIGKILL)
        self.end()

    def signal(self, number: signal.Signals) -> None:
        """By the nursery, which knows whether the process is still there."""
        if not self.ended.is_set():
            self._signal(number)

    def stands_still(self) -> bool:
        """Whether it is stopped by a signal, waiting for another to go on."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def held(self) -> Held:
        """What it holds now; it must be ready, and not ended."""
        return ask(lambda: self.signal(signal.SIGUSR1), self._held)

    def end(self) -> int:
        """Its exit status; negative: the signal that it died of."""
        assert self.ended.wait(WITHIN_S), f"it does not end: {self.log()}"
        assert self.status is not None
        return self.status


def _line(line: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"event": "text", "text": line.decode("utf-8", "replace")}
    return found


class Nursery:
    """`with Nursery() as nursery: nursery.run(["serve"], folder, environ)`."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            env=outer_environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._numbers = itertools.count()
        self._runs: dict[int, Run] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(WITHIN_S)
        self._reader.join(WITHIN_S)
        self._process.stdout.close()

    def run(self, args: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Run:
        """Begins a run; its process is there when this returns."""
        number = next(self._numbers)
        run = Run(
            folder / f"log-{number}",
            folder / f"held-{number}",
            lambda given: self._tell({"run": number, "signal": int(given)}),
        )
        self._runs[number] = run
        self._tell({"run": number, "args": list(args), "folder": str(folder), "environ": dict(environ)})
        assert run.began.wait(WITHIN_S), "the nursery does not answer"
        return run

    def _tell(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            run = self._runs[said["run"]]
            if "pid" in said:
                run.pid = said["pid"]
                run.began.set()
            else:
                run.status = said["status"]
                run.ended.set()
