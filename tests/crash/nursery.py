"""A process that has the program loaded and forks off a copy of itself for each run: a start without its imports.

On standard input it is told, a line of JSON each, what to run, `{"run": N, "args": […], "folder": …, "environ": {…}}`,
and which of those that still run to signal, `{"run": N, "signal": …}`. On standard output it says
`{"run": N, "pid": …}` and, once it is over, `{"run": N, "status": …}` (the exit status, negative: the signal). What a
run itself says goes to `FOLDER/log-N`, and to SIGUSR1 it answers in `FOLDER/held-N` (`tests/support/held.py`). The
nursery has no thread and no open ledger of its own, so that nothing of it
is shared by accident.
"""

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from gateway.cli.main import main
from gateway.flow.upkeep import Upkeep
from tests.crash.steps import Steps, StepsDisk, hook_files, hook_sockets
from tests.support.held import tell_when_asked

# What the program imports only when it is run.
for _name in (
    "gateway.wiring.instance",
    "uvicorn.loops.auto",
    "uvicorn.loops.asyncio",
    "uvicorn.lifespan.off",
):
    importlib.import_module(_name)


def beat_once() -> None:
    """The write by which the ledger's health is proven every second is made at the start and then left out: it would
    fall between any two steps of an order, wherever the clock has it, and no number would name the same step twice. A
    process beside the counted one beats once, too: the mark beside the ledger is not written by whoever comes second.
    """
    beat, beaten = Upkeep.beat, False

    async def at_first(self: Upkeep) -> None:
        nonlocal beaten
        if not beaten:
            beaten = True
            await beat(self)
        else:
            self._readiness.wrote()

    Upkeep.beat = at_first  # type: ignore[method-assign]  # in this process alone


def become(order: dict[str, Any]) -> NoReturn:
    """The rest of this (forked) process: the program, as it would run by itself."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(order["folder"])
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(f"log-{order['run']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, file in ((0, null), (1, log), (2, log)):
        os.dup2(file, number)
    for file in range(3, 64):  # the nursery's own, and those of nobody
        try:
            os.close(file)
        except OSError:
            continue
    os.environ.update(order["environ"])
    tell_when_asked(Path(f"held-{order['run']}"), collect=False)
    status, disk = 1, None
    try:
        if "CRASH_STEPS" in os.environ or "CRASH_BESIDE" in os.environ:
            beat_once()
        if "CRASH_STEPS" in os.environ:
            steps = Steps(os.environ)
            hook_sockets(steps)
            hook_files(steps)
            disk = StepsDisk(steps)  # in use for as long as there is a reference to it
        sys.argv = ["ordergate", *order["args"]]
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        atexit._run_exitfuncs()  # the last lines of the log
        sys.stderr.flush()
        sys.stdout.flush()
        del disk
        os._exit(status)


def say(**members: Any) -> None:
    os.write(1, json.dumps(members).encode() + b"\n")


def obey(order: dict[str, Any], runs: dict[int, int]) -> None:
    if "signal" in order:
        for pid in [pid for pid, run in runs.items() if run == order["run"]]:
            os.kill(pid, order["signal"])
        return
    pid = os.fork()
    if pid == 0:
        become(order)
    runs[pid] = order["run"]
    say(run=order["run"], pid=pid)


def tend() -> None:
    """Until standard input ends; then whatever still runs is killed."""
    runs: dict[int, int] = {}
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    waiting = b""
    while True:
        for key, _ in selector.select():
            if key.fd == woken:
                os.read(woken, 4096)
                continue
            read = os.read(0, 65536)
            if not read:
                for pid in runs:
                    os.kill(pid, signal.SIGKILL)
                return
            *lines, waiting = (waiting + read).split(b"\n")
            for line in lines:
                obey(json.loads(line), runs)
        while runs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            say(run=runs.pop(pid), status=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    tend()
