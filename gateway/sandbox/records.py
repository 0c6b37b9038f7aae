"""What the sandbox remembers: requests as received, orders as taken, raw bytes as they crossed the socket.

Every time is kept twice, read one after the other: `monotonic_ns` (the system's monotonic clock, comparable with
other processes on the same host) for intervals, `wall_ms` (milliseconds since 1970, UTC) for people. A time is
when the event loop read the bytes, so it is never earlier than their arrival.
"""

import time
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from gateway.sandbox.answers import Response

Direction = Literal["in", "out"]
ClosedBy = Literal[
    "closed_by_peer", "reset_by_peer", "closed_by_sandbox", "reset_by_sandbox", "idle_timeout", "sandbox_stopped"
]


class Moment(NamedTuple):
    monotonic_ns: int
    wall_ms: int


def now() -> Moment:
    return Moment(time.monotonic_ns(), time.time_ns() // 1_000_000)


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """One request. It exists from the end of its headers on; `complete` once its body is whole."""

    connection: int
    number: int  # on its connection, from 1
    received: Moment  # its first byte
    counted: Moment  # its headers were read, and it was counted in its key's limits
    method: str
    target: str
    headers: list[tuple[str, str]]
    keep_alive: bool
    body: bytes = b""
    complete: bool = False
    allowed: bool = True  # by the limits
    retry_after_s: int = 0
    fault: str | None = None
    answer: Response | None = None
    order: "Order | None" = None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def is_control(self) -> bool:
        return self.path.startswith("/sandbox/")

    def header(self, name: str) -> str | None:
        """The values of `name` (lower case), repeated ones joined as Node does, or None."""
        values = [value for key, value in self.headers if key.lower() == name]
        return ", ".join(values) if values else None

    @property
    def key(self) -> str:
        return self.header("x-api-key") or ""


@dataclass(slots=True, kw_only=True, eq=False)
class Order:
    """One order that the sandbox holds. `data` is its body as parsed; `status` is OfferGrid's order status."""

    order_id: str
    account: str
    request: Request
    data: dict[str, Any]
    items: list[dict[str, str]]
    created_at: str
    placed: Moment
    status: str = "pending"

    @property
    def metadata(self) -> dict[str, Any] | None:
        found = self.data.get("metadata")
        return found if isinstance(found, dict) else None


class Chunk(NamedTuple):
    """What one read or write moved. `data` is None where only the size was kept."""

    direction: Direction
    moment: Moment
    size: int
    data: bytes | None


@dataclass(slots=True, eq=False)
class RawLogBudget:
    """How many raw bytes may still be kept. Past it sizes and times go on being recorded, bytes do not."""

    left: int


@dataclass(slots=True, kw_only=True, eq=False)
class ConnectionLog:
    """The raw record of one connection. `control`: it carries requests to `/sandbox/…` and is not listed."""

    number: int
    peer: str
    opened: Moment
    budget: RawLogBudget
    closed: Moment | None = None
    closed_by: ClosedBy | None = None
    control: bool = False
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    chunks: list[Chunk] = field(default_factory=list)

    def add(self, direction: Direction, moment: Moment, data: bytes, *, keep: bool = True) -> None:
        size = len(data)
        if direction == "in":
            self.bytes_in += size
        else:
            self.bytes_out += size
        if keep and size <= self.budget.left:
            self.budget.left -= size
            self.chunks.append(Chunk(direction, moment, size, data))
        else:
            self.chunks.append(Chunk(direction, moment, size, None))

    def raw(self, direction: Direction) -> bytes:
        """All bytes kept in one direction, joined."""
        return b"".join(chunk.data for chunk in self.chunks if chunk.direction == direction and chunk.data)
