"""One connection: uvicorn's protocol under a watch, with one answer for each request and in their order."""

import asyncio
import select
from collections import deque
from typing import Any

import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.clock import Clock
from gateway.errors import BadRequest, HeaderTooLarge, Problem, RequestTimeout, UriTooLong
from gateway.web.edge import MAX_TARGET_BYTES, Edge
from gateway.web.watch import Limits, Phase, Watch


class Shared(msgspec.Struct, kw_only=True):
    """What the connections of one listener share. `open`: those accepted and not gone."""

    edge: Edge
    limits: Limits
    watch: Watch
    clock: Clock
    open: set[asyncio.Protocol]
    stopping: bool = False
    """Then each connection ends with the answer to the request that it carries."""


class _Flow(FlowControl):
    """Uvicorn's, but nothing more is read while requests wait in line: their number has an end."""

    def __init__(self, transport: asyncio.Transport, line: deque[Any]) -> None:
        super().__init__(transport)
        self._line = line

    def resume_reading(self) -> None:
        if not self._line:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """Uvicorn's connection, under watch, whose answers of its own are problem documents.

    The parser keeps what it reads of a header or a trailer: without a limit here one connection could fill the
    memory. Uvicorn's own timer, which any byte stops for good, is not used.
    """

    def __init__(self, *args: Any, shared: "Shared", **options: Any) -> None:
        super().__init__(*args, **options)
        self.phase: Phase | None = None
        self._shared = shared
        self._edge, self._limits, self._watch, self._clock = shared.edge, shared.limits, shared.watch, shared.clock
        shared.open.add(self)
        self._silent_bytes = 0
        self._in_header = self._in_body = self._began = self._progress = self._used = False
        self._header_began: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._watch.enter(self, Phase.FRESH)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._watch.leave(self)
        self._shared.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._began = self._progress = False
        super().data_received(data)
        # A read in which a message began or a body went on is not counted: it may be that part alone.
        if (self._in_header or self._in_body) and not self._progress and not self.transport.is_closing():
            self._silent_bytes += len(data)
            if self._silent_bytes > self._limits.max_header_bytes:
                self._refuse(HeaderTooLarge(f"The header section may have {self._limits.max_header_bytes} bytes."))
        self._look()

    def on_message_begin(self) -> None:
        self._in_header = self._began = self._progress = self._used = True
        self._silent_bytes = 0
        self._header_began = self._clock.monotonic()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if b"#" in url:  # uvicorn would cut it off, and the path before it would match a route
            raise ValueError("a fragment in the request target")

    def on_header(self, name: bytes, value: bytes) -> None:
        # Behind the body: uvicorn would put it among the header's lines, where it could be a token or a key.
        if not self._in_header:
            raise ValueError("a trailer")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_header, self._in_body, self._silent_bytes = False, True, 0
        if self._shared.stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._progress, self._silent_bytes = True, 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, without its timer, and going on to read when the last of those in line has begun."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            self.flow.resume_reading()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch.untaken(self, begins=True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch.untaken(self, begins=False)

    def shutdown(self) -> None:
        super().shutdown()
        self._look()

    def send_400_response(self, msg: str) -> None:
        del msg  # what the parser says of the bytes helps nobody who sends them
        self._refuse(BadRequest("This is not a request that can be read in one way."))

    def time_is_over(self, phase: Phase) -> None:
        """Ends what was waited for in `phase`: with an answer where a request has begun and nothing was answered."""
        if phase in (Phase.CLOSING, Phase.UNTAKEN):
            self.transport.abort()
        elif phase is Phase.HEADER and self.flow.read_paused:
            # The rest may be there already: it is the orders before it that take their time.
            self._watch.enter(self, phase)
        elif phase is Phase.HEADER:
            seconds = self._limits.header_timeout_s
            self._refuse(RequestTimeout(f"The header section did not arrive within {seconds:g} s."))
            self._look()
        else:
            self.transport.close()
            self._look()

    def can_be_spared(self) -> bool:
        if self.transport.is_closing():
            return False
        arrived = select.poll()
        arrived.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return not arrived.poll(0)

    def _look(self) -> None:
        """Enters the phase that the connection is in now; the time of one that goes on goes on too."""
        now = self._phase_now()
        if now is not self.phase or (now is Phase.HEADER and self._began):
            self._watch.enter(self, now)
            self._began = False

    def _phase_now(self) -> Phase | None:
        if self.transport.is_closing():
            return Phase.CLOSING
        if self._in_header:
            return Phase.HEADER
        last: RequestResponseCycle | None = self.cycle
        if last is not None and not last.response_complete:
            return None
        if self._in_body:
            return Phase.LEFTOVER
        return Phase.QUIET if self._used else Phase.FRESH

    def _refuse(self, problem: Problem) -> None:
        """Tells the problem and closes, where no answer that is still to come would be taken for it."""
        if self._answers_pending():
            return
        if self._in_header and len(self.url) > MAX_TARGET_BYTES:
            problem = UriTooLong(f"Path and query may have {MAX_TARGET_BYTES} bytes together.")
        self.transport.write(self._edge.refusal(problem, self._header_began))
        self.transport.close()

    def _answers_pending(self) -> bool:
        """Whether requests before the unreadable bytes still wait for their answers, which must not be preceded by
        this one: the tenant would take it for theirs. The last of them then ends the connection.
        """
        last: RequestResponseCycle | None = self.cycle
        if last is None:
            return False
        if self._in_body:  # the unreadable bytes are in the last one's body
            if last.response_started or self.pipeline:  # it has its answer, or others before it have none
                self.transport.close()
                return True
            return False
        if last.response_complete:
            return False
        last.keep_alive = False
        return True
