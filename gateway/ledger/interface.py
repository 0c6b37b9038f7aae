"""What a ledger promises, whatever keeps it.

Every method that writes returns only when the change is durable (it survives a power cut), and raises

- `LedgerError`: certainly nothing was written;
- `LedgerBusy`, `LedgerOverloaded`: the same, because the database or the queue was occupied;
- `LedgerUndecided`: the commit was cut off. Whoever meant to send must not send.

Times are milliseconds since 1970, UTC. Bodies are plain bytes here; at rest they are sealed.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from gateway.core.budget import Allowance, Call, Shortage
from gateway.core.budget_terms import Terms
from gateway.core.evidence import EvidenceKind
from gateway.core.lifecycle import Outcome
from gateway.core.outcome import Ending


class Seals(Protocol):
    """The part of the vault that a ledger needs: records bound to their place, and the audit log's links."""

    def seal(self, plaintext: bytes, *, table: str, row: str, column: str) -> bytes: ...
    def open(self, sealed: bytes, *, table: str, row: str, column: str) -> bytes: ...
    def mac(self, purpose: Literal["audit"], data: bytes) -> bytes: ...


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An intent as it is claimed. `key_digest` and `fingerprint` are keyed digests of tenant and idempotency key, and
    of tenant and body: the two parts of `gatewayClaim`, so that a listing can tell them to a restored ledger.

    `request_id`: in whose hand the order is, see `Ledger.recover`.
    `window_ms`: without an idempotency key, an order of the same tenant and body is the same order while it is
    unsettled, and for so long after it settled. `ttl_ms`: a key names its order for so long after it settled.
    """

    request_id: str
    order_id: str
    tenant_id: int
    tenant: str
    team_id: int
    fingerprint: bytes
    key_digest: bytes | None
    idempotency_key: str | None
    window_ms: int
    ttl_ms: int
    created_ms: int


class AttemptStart(msgspec.Struct, frozen=True, kw_only=True):
    """`terms`: what the key may carry; None: whatever comes, and nothing is counted."""

    key_id: str
    started_ms: int
    terms: Terms | None = None


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long an order may wait for its key's budget. `only_part`: others wait already, so it takes no more at once
    than what is guaranteed to its tenant.
    """

    wait_ms: int = 0
    only_part: bool = False


class AttemptEnd(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is OfferGrid's HTTP status where a whole answer came."""

    ended_ms: int
    evidence: EvidenceKind
    status: int | None


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How an order ended. `response` is OfferGrid's body; `answer` what the tenant is told, where that differs.

    `http_status`: what the tenant was answered; None where it had hung up.
    """

    outcome: Outcome
    cause: Ending
    http_status: int | None
    upstream_order_id: str | None = None
    upstream_status: str | None = None
    response: bytes | None = None
    answer: bytes | None = None


class StoredAttempt(msgspec.Struct, frozen=True, kw_only=True):
    started_ms: int
    ended_ms: int | None
    evidence: EvidenceKind | None
    status: int | None


class StoredOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One order as the ledger holds it. `seq` orders them by when they were claimed."""

    seq: int
    order_id: str
    tenant: str
    outcome: Outcome
    cause: Ending | None
    http_status: int | None
    upstream_order_id: str | None
    upstream_status: str | None
    idempotency_key: str | None
    created_ms: int
    settled_ms: int | None
    attempts: tuple[StoredAttempt, ...]
    response: bytes | None
    answer: bytes | None


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """The order is this caller's to send, under this id. `version` is what its next change must name.

    `by_body`: it was found by its body, and is tried again. `key_digest` is the row's, by whichever it was found.
    `key_id`: of the attempt that is open, and `call` how it was counted. `short`: it is queued, since the budget does
    not allow it now. `allowances`: what is left of the key's budget after it.
    """

    order_id: str
    version: int
    by_body: bool = False
    key_digest: bytes | None = None
    key_id: str | None = None
    call: Call | None = None
    short: Shortage | None = None
    allowances: tuple[Allowance, ...] = ()


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant's key, or without one the body, names an order already: nothing was written.

    `same_body`: it asks for the same. `by_body`: it was found by its body.
    """

    order: StoredOrder
    same_body: bool
    by_body: bool


class Short(msgspec.Struct, frozen=True, kw_only=True):
    """The key's budget does not allow the call before its patience ends: nothing was written."""

    short: Shortage
    allowances: tuple[Allowance, ...] = ()


Claim = Claimed | Known | Short


class UnknownOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that OfferGrid may or may not have. `http_status`: what its tenant was told, if anything.

    `created_tick`: when it was claimed, in milliseconds of the ledger's time.
    """

    order_id: str
    team_id: int
    team: str
    version: int
    created_ms: int
    created_tick: int
    http_status: int | None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An order as OfferGrid lists it: `text` is its JSON there, byte for byte."""

    upstream_order_id: str
    upstream_status: str | None
    text: bytes
    settled_ms: int


class OrderFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first. `tenant_id` None means all tenants; `before_seq` continues an earlier page."""

    tenant_id: int | None = None
    tenant: str | None = None
    outcome: Outcome | None = None
    before_seq: int | None = None
    limit: int = 20


class Ledger(Protocol):
    """The orders' ledger. All methods may be called from one event loop at a time."""

    async def claim(self, order: NewOrder, attempt: AttemptStart | None, patience: Patience = ...) -> Claim:
        """First wins. `Claimed` means that the order stands durably: `in_flight` with this attempt, which is counted
        against its key's budget in the same write; or without one, or where the budget is `short`, `queued`.

        An order that is there already and `not_placed` is claimed again under its own id.
        """

    async def recall(self, order: NewOrder) -> Known | None:
        """What `claim` would find there and not send; None where it would send. Only looks."""

    async def start(self, claimed: Claimed, attempt: AttemptStart) -> Claimed | Short:
        """Makes a `queued` order `in_flight` with this attempt. Short: it stays queued."""

    async def next_attempt(self, claimed: Claimed, ended: AttemptEnd, attempt: AttemptStart) -> Claimed | Short:
        """Closes one attempt and opens the next in one durable step. Short: nothing was written."""

    async def take_read(self, terms: Terms) -> Shortage | None:
        """Counts a read of the gateway's own against the key's reserve; durable. Shortage: it must not be made now."""

    async def settle(self, claimed: Claimed, ended: AttemptEnd | None, settlement: Settlement) -> None:
        """Writes how the order ended; durable before anyone is told. `ended` None: it was `queued`."""

    async def pause_key(self, key_id: str, pause_s: int) -> None:
        """OfferGrid wants no call with this key for so long, whoever makes it. A shorter pause ends no longer one."""

    async def refuse_key(self, key_id: str) -> bool:
        """OfferGrid said 401 to this key: no instance uses it until it is verified. Whether this changed anything."""

    def owns(self) -> bool:
        """Whether what this process has claimed is still its own. Asked directly before the first byte; costs some
        microseconds.
        """

    async def find(self, order_id: str, *, tenant_id: int | None) -> StoredOrder | None:
        """One order, of this tenant only unless None is given."""

    async def page(self, wanted: OrderFilter) -> Sequence[StoredOrder]: ...

    async def unsettled(self) -> dict[Outcome, int]:
        """How many orders are `queued`, `in_flight` and `unknown`."""


class OrderState(msgspec.Struct, frozen=True, kw_only=True):
    """Where an order stands, for comparing it with what OfferGrid lists."""

    order_id: str
    team_id: int
    outcome: Outcome
    version: int
    upstream_order_id: str | None
    http_status: int | None


class WatchedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that was settled because OfferGrid did not have it, and is still looked out for."""

    order_id: str
    team_id: int
    team: str


class Stray(msgspec.Struct, frozen=True, kw_only=True):
    """An order at OfferGrid that should not be there: a second one of the same order, or one of an order that is
    settled otherwise.
    """

    team_id: int
    upstream_order_id: str
    order_id: str
    kind: Literal["duplicate", "late"]
    seen_ms: int


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """How an operator settles an unknown order: placed under this upstream id, or with None not placed."""

    order_id: str
    placed_as: str | None
    reason: str
    who: str
    at_ms: int
