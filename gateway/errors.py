"""Every error, as one tree. A foreign exception is translated into one of these at exactly one boundary.

OrdergateError
├── Problem            what a tenant or an admin caller is told, as application/problem+json (RFC 9457)
│   └── …              one class a problem type: `type`, `title` and `status` are class attributes
├── OperatorError      what a person at the command line is told; `exit_code` is the process's exit status
│   ├── BadUsage           2
│   ├── BadSettings        3
│   ├── Refused            4   it exists already, or it may not be done
│   │   └── NoSuch         4   what was named is not there
│   └── StorageUnreachable 5   storage, or a service, cannot be reached or cannot be trusted
│       └── UpstreamSilent 5   OfferGrid does not say what it was asked
└── LedgerError        a ledger operation failed; what it did is `undecided` or certainly nothing
"""

from typing import ClassVar


class OrdergateError(Exception):
    """The root. Never raised itself."""


class OperatorError(OrdergateError):
    """Told on standard error, in one line or one line a fault; ends the command with `exit_code`."""

    exit_code: ClassVar[int] = 1


class BadUsage(OperatorError):
    """What was asked for makes no sense as it was asked: a name, a number or a text out of its bounds."""

    exit_code = 2


class BadSettings(OperatorError):
    """Settings, secrets or files that the process must not start with. One line a fault."""

    exit_code = 3

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Refused(OperatorError):
    """There is no such thing, it is there already, or its state does not allow what was asked."""

    exit_code = 4


class NoSuch(Refused):
    """What was named is not there."""


class StorageUnreachable(OperatorError):
    """The storage (or a service) cannot be opened, reached or trusted."""

    exit_code = 5


class UpstreamSilent(StorageUnreachable):
    """OfferGrid was asked for something that is no order, and gave no answer that says it."""


class LedgerError(OrdergateError):
    """A ledger operation failed and certainly changed nothing."""


class LedgerUndecided(LedgerError):
    """A commit failed half-way: whether it is durable is not known until it is read back on a new connection."""


class LedgerBusy(LedgerError):
    """Another process held the database too long. Nothing was written."""


class LedgerOverloaded(LedgerError):
    """Too many writes are waiting already. Nothing was written."""


class LedgerClosed(LedgerError):
    """The ledger takes no writes any more, for this process's rest of life. Nothing was written."""


class LedgerStale(LedgerError):
    """The order is not at the version that the write expected: somebody else moved it. Nothing was written."""


class SealBroken(LedgerError):
    """A sealed value is not what was sealed here: changed, cut, moved, or under another key. Says no more."""


class MasterKeyMissing(SealBroken):
    """A sealed value is under a version of the master key that its file does not hold."""


class UpstreamOrderTaken(LedgerError):
    """OfferGrid's answer names an order id that another order of the team has: it cannot be this order's."""


class Problem(OrdergateError):
    """A problem document. `detail` is shown to whoever asked: no ids of others, no secrets, no internals.

    `errors` lists faults as (JSON pointer, detail); `headers` are extra response headers.
    """

    type: ClassVar[str]
    title: ClassVar[str]
    status: int

    def __init__(
        self,
        detail: str,
        *,
        errors: tuple[tuple[str, str], ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers


class BadRequest(Problem):
    type, title, status = "bad-request", "The request cannot be read", 400


class IdempotencyKeyRequired(Problem):
    type, title, status = "idempotency-key-required", "This tenant must send an Idempotency-Key", 400


class Unauthorized(Problem):
    type, title, status = "unauthorized", "No valid token", 401


class TenantSuspended(Problem):
    type, title, status = "tenant-suspended", "This tenant is suspended", 403


class Forbidden(Problem):
    type, title, status = "forbidden", "Not allowed from here", 403


class NotFound(Problem):
    type, title, status = "not-found", "There is nothing here", 404


class MethodNotAllowed(Problem):
    type, title, status = "method-not-allowed", "This path does not take this method", 405


class NotAcceptable(Problem):
    type, title, status = "not-acceptable", "The answer cannot be given in an accepted media type", 406


class RequestTimeout(Problem):
    type, title, status = "request-timeout", "The request did not arrive in time", 408


class BodyTooLarge(Problem):
    type, title, status = "body-too-large", "The body is too large", 413


class UriTooLong(Problem):
    type, title, status = "uri-too-long", "The request target is too long", 414


class UnsupportedMediaType(Problem):
    type, title, status = "unsupported-media-type", "The body must be application/json, not encoded", 415


class ExpectationFailed(Problem):
    type, title, status = "expectation-failed", "This expectation cannot be met", 417


class InvalidOrder(Problem):
    type, title, status = "invalid-order", "The body is not a valid order", 422


class ReservedMetadata(Problem):
    type, title, status = "reserved-metadata", "Metadata members named gateway… are the gateway's own", 422


class IdempotencyKeyReused(Problem):
    type, title, status = "idempotency-key-reused", "This Idempotency-Key was used with another body", 422


class Conflict(Problem):
    type, title, status = "conflict", "This cannot be done as things stand", 409


class HeaderTooLarge(Problem):
    type, title, status = "header-too-large", "The request's header section is too large", 431


class OrderRejected(Problem):
    """`status` is OfferGrid's own 4xx, set on the instance; told from the gateway's by `type`."""

    type, title, status = "order-rejected", "OfferGrid refused the order", 422


class OrderInFlight(Problem):
    type, title, status = "order-in-flight", "The first request with this key is still running", 409


class UpstreamThrottled(Problem):
    type, title, status = "upstream-throttled", "OfferGrid asks to wait", 429


class InternalError(Problem):
    type, title, status = "internal-error", "A defect of Ordergate", 500


class BudgetExhausted(Problem):
    type, title, status = "budget-exhausted", "The key's budget, or the tenant's part of it, is used up", 429


class UpstreamCredentials(Problem):
    type, title, status = "upstream-credentials", "OfferGrid does not accept the team's key", 502


class OutcomeUnknown(Problem):
    type, title, status = "outcome-unknown", "The order was sent; whether OfferGrid has it is not known", 502


class OutcomeUnknownTimeout(OutcomeUnknown):
    """The same type with the status that says no whole answer came in time."""

    status = 504


class UpstreamUnavailable(Problem):
    type, title, status = "upstream-unavailable", "OfferGrid could not be reached; nothing was sent", 503


class Overloaded(Problem):
    type, title, status = "overloaded", "Too many orders are waiting; nothing was sent", 503


class LedgerUnavailable(Problem):
    type, title, status = "ledger-unavailable", "The ledger cannot be used; nothing was sent", 503


class Draining(Problem):
    type, title, status = "draining", "This instance is shutting down; nothing was sent", 503
