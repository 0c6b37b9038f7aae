"""What is known of one attempt: the only thing that decides what may be said about an order.

The three kinds are exhaustive, and doubt always falls to `Sent`:

- `NotSent`: no byte of the request left this process. The order may safely be sent again.
- `Sent`: some byte may have left, and no whole readable response came back. OfferGrid may have acted.
- `Answered`: one whole, readable response came back. It may still say nothing useful (`classify` decides).
"""

from typing import Literal

import msgspec

NotSentReason = Literal[
    "connect_refused", "connect_timeout", "unresolvable", "tls", "too_late", "no_connection", "no_budget", "defect"
]
SentReason = Literal["timeout", "broken"]


class NotSent(msgspec.Struct, frozen=True, kw_only=True, tag="not_sent"):
    """No byte of the request went out. `detail` is for logs and operators, never shown to a tenant."""

    reason: NotSentReason
    detail: str = ""


class Sent(msgspec.Struct, frozen=True, kw_only=True, tag="sent"):
    """Some byte may have gone out. `timeout`: no whole answer in time; `broken`: cut off or unreadable."""

    reason: SentReason
    detail: str = ""


class Answered(msgspec.Struct, frozen=True, kw_only=True, tag="answered"):
    """A whole response: the framing was complete, the size within the limit, no content coding on it.

    `retry_after` and `link` are the raw header values, or None where there were none; several Link headers are
    joined by ", ", which means the same.
    """

    status: int
    body: bytes
    content_type: str = ""
    retry_after: str | None = None
    link: str | None = None


Evidence = NotSent | Sent | Answered
EvidenceKind = Literal["not_sent", "sent", "answered"]
