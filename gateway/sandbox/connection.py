"""One connection: requests answered one after the other, every byte recorded, and the means to break it.

It is a server of its own, not a library's, because it must be able to break the protocol at any byte.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from gateway.sandbox.answers import Response, nest_error, render
from gateway.sandbox.faults import Fault, FaultBox
from gateway.sandbox.reader import RequestReader
from gateway.sandbox.records import ClosedBy, ConnectionLog, Moment, Request, now
from gateway.sandbox.state import State

REQUEST_TIMEOUT_S = 60.0  # Node's headersTimeout: a request that does not get on is cut off
MAX_WAITING = 16  # pipelined requests; more stay in the kernel's buffer
_LINGER_0 = struct.pack("ii", 1, 0)
_CUTS = frozenset({"reset_after_headers", "stop_reading"})
_log = logging.getLogger("ordergate.sandbox")

Player = Callable[["Connection", Request, Fault], Coroutine[Any, Any, None]]


@dataclass(slots=True, kw_only=True, eq=False)
class Hub:
    """What all connections of one sandbox share."""

    state: State
    faults: FaultBox
    answer: Callable[[Request, Fault | None], Response]
    control: Callable[["Hub", Request], Response]
    play: Player
    idle_s: float
    connections: set["Connection"] = field(default_factory=set)
    timers: set[asyncio.TimerHandle] = field(default_factory=set)
    opened: int = 0

    def later(self, after_s: float, act: Callable[[], object]) -> None:
        """Runs `act` after that time, on the monotonic clock, unless the sandbox stops or is reset before."""

        def run() -> None:
            self.timers.discard(handle)
            act()

        handle = asyncio.get_running_loop().call_later(after_s, run)
        self.timers.add(handle)

    def cancel_timers(self) -> None:
        for handle in self.timers:
            handle.cancel()
        self.timers.clear()


class Connection(asyncio.Protocol):
    def __init__(self, hub: Hub) -> None:
        hub.opened += 1
        self.hub = hub
        self.idle_s = hub.idle_s
        self.lost = asyncio.Event()
        self.task: asyncio.Task[None] | None = None  # the fault being played
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(hub.opened)
        self._waiting: deque[tuple[Request, Fault | None]] = deque()
        self._armed: dict[int, Fault] = {}  # by request number, between head and body
        self._refusal: Response | None = None  # said when all before it is answered
        self._timer: asyncio.TimerHandle | None = None
        self._reading = True
        self._can_write = asyncio.Event()
        self._can_write.set()

    # What asyncio calls ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername") or ("?", 0)
        state = self.hub.state
        self.log = ConnectionLog(
            number=self.hub.opened, peer=f"{peer[0]}:{peer[1]}", opened=now(), budget=state.log_budget
        )
        state.connections.append(self.log)
        self.hub.connections.add(self)
        fault = self.hub.faults.take_at_accept()
        if fault is None:
            self.arm(REQUEST_TIMEOUT_S)
        elif fault.kind == "reset_before_read":
            self.reset()
        else:
            self._play(nobody(self.log.number), fault)

    def data_received(self, data: bytes) -> None:
        try:
            self._take(data, now())
        except Exception as error:  # noqa: BLE001  a stand-in must outlive its own defects, and say so
            self._defect(error)

    def eof_received(self) -> None:
        self._note_end("closed_by_peer")

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_end("reset_by_peer" if isinstance(exc, OSError) else "closed_by_sandbox")
        self.log.closed = now()
        self._disarm()
        self._waiting.clear()
        self._can_write.set()
        if self.task is not None:
            self.task.cancel()
        self.hub.connections.discard(self)
        if self.log.control:
            self.hub.state.connections.remove(self.log)
        self.lost.set()

    def pause_writing(self) -> None:
        self._can_write.clear()
        self._regulate()

    def resume_writing(self) -> None:
        self._can_write.set()
        self._regulate()

    # Reading and answering ------------------------------------------------------------------------------------

    def _take(self, data: bytes, moment: Moment) -> None:
        first_bytes = self._reader.between and not self._waiting and self.task is None
        self.log.control = self.log.control or (self._reader.count == 0 and b" /sandbox/" in data[:64])
        self.log.add("in", moment, data, keep=not self.log.control)
        if first_bytes and self.hub.faults.take_at_first_bytes(data):
            return self.reset()
        events, refusal = self._reader.feed(data, moment)
        self._refusal = self._refusal or refusal
        if self.task is None:
            self.arm(REQUEST_TIMEOUT_S)
        for what, request in events:
            if what == "whole":
                self._waiting.append((request, self._armed.pop(request.number, None)))
            elif self._receive(request):
                return None
        return self._advance()

    def _receive(self, request: Request) -> bool:
        """Counts a request whose headers were read. True: the fault played now ends the reading."""
        self.log.requests += 1
        if request.is_control:
            self.log.control = self.log.control or request.number == 1
            return False
        self.hub.state.receive(request)
        fault = self.hub.faults.take(request)
        if fault is not None:
            request.fault = fault.kind
            if fault.kind in _CUTS:
                self._play(request, fault)
                return True
            self._armed[request.number] = fault
        if (request.header("expect") or "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return False

    def _advance(self) -> None:
        """Answers what waits, in order, until a fault is being played or nothing waits any more."""
        while self._waiting and self.task is None and not self._transport.is_closing():
            request, fault = self._waiting.popleft()
            if request.is_control:
                self.reply(request, self.hub.control(self.hub, request), keep=False)
                self._end_of(request)
            elif fault is None or fault.is_listing:
                self.reply(request, self.hub.answer(request, fault))
                self._end_of(request)
            else:
                self._play(request, fault)
        if self._refusal is not None and self.task is None and not self._transport.is_closing():
            self.write(render(self._refusal, keep_alive=False, idle_s=self.idle_s))
            self.close()
        self._regulate()

    def _end_of(self, request: Request) -> None:
        if not request.keep_alive:
            self.close()
        elif not self._waiting and self._reader.between:
            self.arm(self.idle_s)

    def _play(self, request: Request, fault: Fault) -> None:
        self._disarm()
        self.task = self._loop.create_task(self.hub.play(self, request, fault))
        self.task.add_done_callback(lambda task: self._played(task, request))

    def _played(self, task: "asyncio.Task[None]", request: Request) -> None:
        self.task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._defect(error)
        elif not self._transport.is_closing():
            self._end_of(request)
            self._advance()

    def _defect(self, error: BaseException) -> None:
        _log.error("sandbox: connection %d: %r", self.log.number, error)
        if not self._transport.is_closing():
            self.write(render(nest_error(500, "Internal server error"), keep_alive=False, idle_s=self.idle_s))
            self.close()

    def _regulate(self) -> None:
        """Reads on only while the peer takes its answers and few requests wait."""
        if self._reading and self._can_write.is_set() and len(self._waiting) < MAX_WAITING:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # The idle timer -------------------------------------------------------------------------------------------

    def arm(self, after_s: float) -> None:
        """Closes the connection after that time, unless something comes in before."""
        self._disarm()
        self._timer = self._loop.call_later(after_s, self.close, "idle_timeout")

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What a player uses ---------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return self.task is None and not self._waiting and self._reader.between and not self._transport.is_closing()

    def write(self, data: bytes, *, keep: bool = True) -> None:
        """Hands bytes to the socket and records them (`keep` false: only their size)."""
        if data and not self._transport.is_closing():
            self.log.add("out", now(), data, keep=keep)
            self._transport.write(data)

    async def drained(self) -> None:
        """Waits until the peer has taken enough for more to be written, or is gone."""
        await self._can_write.wait()

    def bytes_of(self, request: Request, response: Response) -> bytes:
        """The whole, correct answer to `request`, which is recorded as its answer."""
        request.answer = response
        head_only = request.method == "HEAD"
        return render(response, keep_alive=request.keep_alive, idle_s=self.idle_s, head_only=head_only)

    def reply(self, request: Request, response: Response, *, keep: bool = True) -> None:
        self.write(self.bytes_of(request, response), keep=keep)

    def stop_reading(self) -> None:
        self._reading = False
        self._regulate()

    def close(self, why: ClosedBy = "closed_by_sandbox") -> None:
        """What was written is still sent; then FIN."""
        self._note_end(why)
        self._transport.close()

    def reset(self, why: ClosedBy = "reset_by_sandbox") -> None:
        """RST: linger 0 makes the kernel drop what is unsent and tell the peer so."""
        self._note_end(why)
        sock = cast(socket.socket, self._transport.get_extra_info("socket"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self._transport.abort()

    def _note_end(self, why: ClosedBy) -> None:
        if self.log.closed_by is None:
            self.log.closed_by = why


def nobody(connection: int) -> Request:
    """Stands for the request where a fault is played before there is one."""
    moment = now()
    return Request(
        connection=connection,
        number=0,
        received=moment,
        counted=moment,
        method="",
        target="",
        headers=[],
        keep_alive=True,
    )
