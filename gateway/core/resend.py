"""When the gateway sends an order again by itself. These cases, and never anything else:

1. nothing was sent: at most `MAX_UNSENT_ATTEMPTS` attempts, a short pause apart;
2. OfferGrid said 401, and the team has another usable key: at once, with that one;
3. OfferGrid said 429 (which means that it did not act) and its `retry-after` fits into the time that is left.

No attempt begins with less than half of the request's time left: an attempt that is cut off by our own impatience
makes an unknown order out of one that was safely not placed.
"""

import email.utils
import math
from datetime import UTC
from http import HTTPStatus
from typing import Final

from gateway.core.evidence import Answered, Evidence, NotSent
from gateway.core.outcome import Verdict

MAX_UNSENT_ATTEMPTS: Final = 3
UNSENT_PAUSES_S: Final = (0.05, 0.25)
"""Before the second and the third attempt: long enough for a restarted listener, short for who waits."""

DEFAULT_RETRY_AFTER_S: Final = 1
MAX_RETRY_AFTER_S: Final = 3600
"""OfferGrid's longest window. What it asks beyond that is not believed."""


def pause_before_resend(
    evidence: Evidence,
    verdict: Verdict,
    *,
    attempts: int,
    left_s: float,
    timeout_s: float,
    wall_ms: int,
    another_key: bool = False,
) -> float | None:
    """Seconds to wait before the next attempt, or None where the order must not be sent again.

    `attempts` were made so far, `left_s` seconds are left of the request's `timeout_s`.
    """
    match evidence:
        case NotSent(reason="too_late"):
            return None
        case NotSent() if attempts < MAX_UNSENT_ATTEMPTS:
            pause = UNSENT_PAUSES_S[attempts - 1]
        case Answered() if verdict.cause == "key_refused" and another_key:
            pause = 0.0
        case Answered() if verdict.cause == "throttled":
            pause = float(retry_after_s(evidence.retry_after, wall_ms=wall_ms))
        case _:
            return None
    return pause if left_s - pause >= timeout_s / 2 else None


def asked_pause_s(evidence: Evidence, *, wall_ms: int) -> int | None:
    """For how long OfferGrid wants no call with the key that this attempt was made with; None where it does not say."""
    if isinstance(evidence, Answered) and evidence.status == HTTPStatus.TOO_MANY_REQUESTS:
        return retry_after_s(evidence.retry_after, wall_ms=wall_ms)
    return None


def retry_after_s(value: str | None, *, wall_ms: int) -> int:
    """A `retry-after` header as whole seconds from 1 to an hour: delta-seconds or an HTTP date; else 1."""
    if value is None:
        return DEFAULT_RETRY_AFTER_S
    text = value.strip()
    if text.isascii() and text.isdigit():
        return max(1, min(int(text.lstrip("0")[:9] or "0"), MAX_RETRY_AFTER_S))
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return DEFAULT_RETRY_AFTER_S
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(1, min(math.ceil(moment.timestamp() - wall_ms / 1000), MAX_RETRY_AFTER_S))
