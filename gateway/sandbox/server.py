"""The sandbox as a whole: what it is made of, its start and its end."""

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.sandbox.api import Api
from gateway.sandbox.connection import Connection, Hub
from gateway.sandbox.control import answer_control
from gateway.sandbox.faults import FaultBox, read_fault
from gateway.sandbox.listener import Listener
from gateway.sandbox.play import play
from gateway.sandbox.records import ConnectionLog, Order, Request
from gateway.sandbox.state import State

# Node closes a connection that is idle for 5 s, and says so in its keep-alive header.
_NODE_IDLE_S = 5.0


class Sandbox:
    """A stand-in for OfferGrid on a real socket, with everything in memory.

    `keys` maps accepted keys to accounts; None: a key's name says what it is (`sandbox-key-…` accepted, each an
    account of its own; `sandbox-revoked-…` 401; `sandbox-provider-…` 403; anything else 401). `per_minute` and
    `per_hour` are a key's limits, 0 = none. Use one instance from one event loop only; start it once.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keys: Mapping[str, str] | None = None,
        per_minute: int = 100,
        per_hour: int = 10_000,
        idle_s: float = _NODE_IDLE_S,
    ) -> None:
        self.host = host
        self.port = port
        self._state = State(keys=keys, per_minute=per_minute, per_hour=per_hour)
        self._idle_s = idle_s
        self._hub: Hub | None = None
        self._listener: Listener | None = None

    @property
    def base_url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def orders(self) -> list[Order]:
        """Every order held, oldest first."""
        return list(self._state.orders.values())

    @property
    def calls(self) -> list[Request]:
        """The receipt log: every call but those to `/sandbox/…`, in the order their headers were read."""
        return list(self._state.calls)

    @property
    def connections(self) -> list[ConnectionLog]:
        return [log for log in self._state.connections if not log.control]

    @property
    def state(self) -> State:
        return self._state

    def set_fault(self, kind: str, **parameters: Any) -> None:
        """As `POST /sandbox/faults`. Raises ValueError for what that refuses."""
        self._running().faults.add(read_fault({"kind": kind, **parameters}))

    def clear_faults(self) -> None:
        self._running().faults.clear()

    @property
    def faults_left(self) -> list[dict[str, Any]]:
        """As `GET /sandbox/faults`."""
        return self._running().faults.remaining()

    @property
    def still_to_come(self) -> int:
        """How many late placements and late bytes are waiting for their time."""
        return len(self._running().timers)

    def reset(self) -> None:
        """As `DELETE /sandbox/orders`: forgets orders, calls, limits and raw logs, and late placements to come."""
        self._running().cancel_timers()
        self._state.reset()

    def _running(self) -> Hub:
        if self._hub is None:
            raise RuntimeError("the sandbox is not started")
        return self._hub

    async def start(self) -> None:
        """Listens. Raises OSError when the port is taken."""
        listener = Listener(lambda: Connection(hub))
        hub = Hub(
            state=self._state,
            faults=FaultBox(listener.refuse),
            answer=Api(self._state).answer,
            control=answer_control,
            play=play,
            idle_s=self._idle_s,
        )
        self.port = await listener.open(self.host, self.port)
        self._hub, self._listener = hub, listener

    async def stop(self) -> None:
        """Closes the port and all connections, and ends every task and timer. Orders stay readable."""
        hub, self._hub = self._hub, None
        listener, self._listener = self._listener, None
        if hub is None or listener is None:
            return
        await listener.close()
        hub.cancel_timers()
        connections = list(hub.connections)
        tasks = [conn.task for conn in connections if conn.task is not None]
        for conn in connections:
            conn.reset("sandbox_stopped")
        for conn in connections:
            await conn.lost.wait()
        await asyncio.gather(*tasks, return_exceptions=True)


async def serve(host: str, port: int) -> None:
    """Runs a sandbox with OfferGrid's own limits until it is cancelled. Raises OSError when the port is taken."""
    sandbox = Sandbox(host=host, port=port)
    await sandbox.start()
    try:
        await asyncio.Event().wait()
    finally:
        await sandbox.stop()
