"""What an order's life takes in, and what it needs of the rooms around it."""

from collections.abc import Awaitable, Callable, Container
from typing import Literal, Protocol

import msgspec

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.broker.vault import Secret
from gateway.core.budget import Shortage
from gateway.core.budget_terms import Terms
from gateway.core.directory import Tenant
from gateway.core.evidence import Evidence
from gateway.core.json_text import JsonObject


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A checked request: the tenant is known and active, the body is a valid order.

    `content` is the body's canonical JSON, by which two requests are known to ask for the same. `hung_up` returns when
    the tenant does not wait for an answer any more. `wait_s`: for how long it wants the order to wait for budget or a
    place; None: as the settings say.
    """

    tenant: Tenant
    body: JsonObject
    content: bytes
    idempotency_key: str | None
    request_id: str
    traceparent: str
    received_ms: int
    hung_up: Callable[[], Awaitable[None]]
    wait_s: float | None = None


class Places(Protocol):
    """Stage 5: one attempt at OfferGrid, which `may_send` can still stop before the first byte. Never raises."""

    async def place(
        self,
        body: bytes,
        *,
        request_id: str,
        traceparent: str,
        key: Secret,
        deadline: float,
        may_send: Callable[[], bool],
    ) -> Evidence: ...


class Shows(Protocol):
    """One read of one order, which costs nothing but a call. Never raises; doubt is `Sent`."""

    async def show_order(self, upstream_order_id: str, *, key: Secret, deadline: float) -> Evidence: ...


class LendsKeys(Protocol):
    def key_of(self, team_id: int) -> LentKey | KeyUnreadable | None: ...
    def key_beside(self, team_id: int, tried: Container[str]) -> LentKey | None: ...


class CountsReads(Protocol):
    """Counts a read against the key's reserve; a shortage where it must not be made now. And takes down that OfferGrid
    wants no call with a key for so many seconds. Raises LedgerError.
    """

    async def take_read(self, terms: Terms) -> Shortage | None: ...

    async def pause_key(self, key_id: str, pause_s: int) -> None: ...


class Marks(Protocol):
    """Keyed digests, by which nobody else can recognise a body or a key."""

    def mac(self, purpose: Literal["claim-key", "claim-body"], data: bytes) -> bytes: ...
