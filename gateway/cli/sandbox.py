"""`ordergate sandbox`: a stand-in for OfferGrid on this machine."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from gateway.cli.output import answer
from gateway.cli.program import Command
from gateway.errors import OperatorError

if TYPE_CHECKING:
    from gateway.sandbox import Sandbox


@click.command(cls=Command, example="ordergate sandbox --port 3000")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=3000, show_default=True, help="0 takes any free one."
)
@click.option(
    "--per-minute", type=click.IntRange(min=0), default=100, show_default=True, help="A key's; 0 is none."
)
@click.option(
    "--per-hour", type=click.IntRange(min=0), default=10_000, show_default=True, help="A key's; 0 is none."
)
def sandbox(host: str, port: int, per_minute: int, per_hour: int) -> None:
    """Run a stand-in for OfferGrid. It keeps OfferGrid's limits, and its orders in memory, until Ctrl-C."""
    asyncio.run(_run(host, port, per_minute, per_hour))


async def _run(host: str, port: int, per_minute: int, per_hour: int) -> None:
    stop = stop_signals()
    async with running_sandbox(host, port, per_minute=per_minute, per_hour=per_hour) as running:
        said = f"the sandbox OfferGrid listens on {running.base_url} (keys: sandbox-key-…; Ctrl-C stops it)"
        answer({"baseUrl": running.base_url, "host": running.host, "port": running.port}, said)
        await stop.wait()


def stop_signals() -> asyncio.Event:
    """Set by SIGTERM or SIGINT, which then end nothing by themselves."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def running_sandbox(
    host: str, port: int, *, per_minute: int = 100, per_hour: int = 10_000
) -> AsyncIterator["Sandbox"]:
    """A sandbox that listens until the block is left. OperatorError, one line, where the port is taken."""
    from gateway.sandbox import Sandbox

    running = Sandbox(host=host, port=port, per_minute=per_minute, per_hour=per_hour)
    try:
        await running.start()
    except (OSError, UnicodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "no such host"
        raise OperatorError(f"sandbox: {host}:{port} cannot be listened on: {why}") from fault
    try:
        yield running
    finally:
        await running.stop()
