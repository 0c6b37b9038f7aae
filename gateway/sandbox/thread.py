"""The sandbox in a thread with an event loop of its own, for tests that are not asynchronous themselves."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Self, TypeVar

from gateway.sandbox.records import ConnectionLog, Order, Request
from gateway.sandbox.server import Sandbox

T = TypeVar("T")


class SandboxThread:
    """`with SandboxThread(per_minute=0) as sandbox:` takes what `Sandbox` takes. Safe to use from any thread."""

    def __init__(self, **parameters: Any) -> None:
        self._parameters = parameters
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.sandbox = Sandbox(**self._parameters)
            asyncio.run_coroutine_threadsafe(self.sandbox.start(), self._loop).result()
        except BaseException:
            self._end()
            raise
        self.base_url, self.port = self.sandbox.base_url, self.sandbox.port
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._end()

    def stop(self) -> None:
        """Stops the sandbox; what it remembers stays readable until the end of the `with` block."""
        asyncio.run_coroutine_threadsafe(self.sandbox.stop(), self._loop).result()

    def _end(self) -> None:
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, act: Callable[[Sandbox], T]) -> T:
        """Runs `act` in the sandbox's thread and returns, or raises, what it does."""

        async def run() -> T:
            return act(self.sandbox)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def set_fault(self, kind: str, **parameters: Any) -> None:
        self.call(lambda sandbox: sandbox.set_fault(kind, **parameters))

    def clear_faults(self) -> None:
        self.call(lambda sandbox: sandbox.clear_faults())

    def reset(self) -> None:
        self.call(lambda sandbox: sandbox.reset())

    @property
    def still_to_come(self) -> int:
        return self.call(lambda sandbox: sandbox.still_to_come)

    @property
    def orders(self) -> list[Order]:
        return self.call(lambda sandbox: sandbox.orders)

    @property
    def calls(self) -> list[Request]:
        return self.call(lambda sandbox: sandbox.calls)

    @property
    def connections(self) -> list[ConnectionLog]:
        return self.call(lambda sandbox: sandbox.connections)
