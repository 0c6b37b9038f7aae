"""From evidence to outcome: one total table, and the rule for what may be sent again.

| evidence | verdict |
| --- | --- |
| nothing was sent | not placed |
| sent, then cut off, unreadable, or no whole answer in time | unknown |
| any 2xx with a JSON object whose `orderId` is a non-empty string | placed |
| 401, 403, 429 with an empty or a JSON body | not placed: OfferGrid says that it did not act |
| any other 4xx but 408, with a JSON object as body | rejected |
| everything else: 1xx, 3xx, 5xx, 408, HTML, a 2xx without an order id | unknown |

Doubt is `unknown`, never a guess: a false `not placed` would send a second technician.
"""

import json
from typing import Any, Final, Literal, assert_never

import msgspec

from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.json_text import Number
from gateway.core.lifecycle import Outcome

Cause = Literal[
    "placed", "rejected", "unreachable", "throttled", "key_refused", "key_forbidden", "timeout", "broken",
    "unusable_answer",
]  # fmt: skip

Withdrawal = Literal[
    "overloaded", "budget", "paused", "draining", "hung_up", "no_key", "breaker", "no_ledger", "defect"
]
"""Why an order that waited for its turn is not sent: no place in time, no budget in time, OfferGrid asked to be left
alone with the key, the instance stops, its tenant does not wait any more, the team's key was taken away, OfferGrid is
left alone, the ledger did not take the intent, or a defect.
"""

Ending = Literal[Cause, Withdrawal, "gone", "absent", "late", "resolved"]
"""Why an order stands as it does: by an attempt's evidence (`Cause`), because it was withdrawn, or

- `gone`: it was waiting when its process went;
- `absent`: two complete listings agree that OfferGrid does not have it;
- `late`: OfferGrid has it after all;
- `resolved`: an operator said so.
"""


MAX_STATUS_CHARS: Final = 64
"""OfferGrid's longest order status has 21. What is longer is none, and would lie in the ledger unsealed."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt's evidence says of the order. `upstream_order_id` is set exactly where it is placed."""

    outcome: Outcome
    cause: Cause
    upstream_order_id: str | None = None


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt's evidence and all that is made of it: a body of a megabyte takes long to read, and is read once.

    `is_json`: the answer's body is JSON. `status`: OfferGrid's word for the order's state, where there is a usable one.
    """

    evidence: Evidence
    verdict: Verdict
    is_json: bool = False
    status: str | None = None


def judged(evidence: Evidence) -> Judged:
    """The verdict on one attempt. Total: every evidence has exactly one."""
    match evidence:
        case NotSent():
            return Judged(evidence=evidence, verdict=Verdict(outcome="not_placed", cause="unreachable"))
        case Sent(reason=reason):
            return Judged(evidence=evidence, verdict=Verdict(outcome="unknown", cause=reason))
        case Answered():
            value = parsed(evidence.body)
            return Judged(
                evidence=evidence,
                verdict=_classify_answer(evidence, value),
                is_json=value is not UNREADABLE,
                status=_order_status(value),
            )
        case _:
            assert_never(evidence)


def classify(evidence: Evidence) -> Verdict:
    """The verdict alone."""
    return judged(evidence).verdict


def _classify_answer(answer: Answered, value: Any) -> Verdict:
    """By status first; the body, read as `value`, is only looked at where its status makes it matter."""
    empty_or_json = value is not UNREADABLE or not answer.body.strip()
    match answer.status:
        case status if 200 <= status < 300:
            order_id = _order_id(value)
            if order_id is not None:
                return Verdict(outcome="placed", cause="placed", upstream_order_id=order_id)
        case 401 if empty_or_json:
            return Verdict(outcome="not_placed", cause="key_refused")
        case 403 if empty_or_json:
            return Verdict(outcome="not_placed", cause="key_forbidden")
        case 429 if empty_or_json:
            return Verdict(outcome="not_placed", cause="throttled")
        case 401 | 403 | 408 | 429:
            pass
        case status if 400 <= status < 500 and isinstance(value, dict):
            return Verdict(outcome="rejected", cause="rejected")
    return Verdict(outcome="unknown", cause="unusable_answer")


class _Unreadable:
    """Stands for "not JSON", which is none of the values that JSON can be."""


UNREADABLE: Final = _Unreadable()


def parsed(body: bytes) -> Any:
    """The upstream's body as JSON (numbers as `Number`, which is no text), or UNREADABLE: bad UTF-8, duplicate
    members, NaN and bottomless nesting count as such.
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return UNREADABLE


def _order_id(value: Any) -> str | None:
    found = value.get("orderId") if isinstance(value, dict) else None
    return found if isinstance(found, str) and found and is_text(found) else None


def _order_status(value: Any) -> str | None:
    found = value.get("status") if isinstance(value, dict) else None
    return found if isinstance(found, str) and len(found) <= MAX_STATUS_CHARS and is_text(found) else None


def is_text(found: str) -> bool:
    """Whether it can be written down: a lone surrogate, which JSON's escapes can spell, cannot."""
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate member")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_without_duplicates, parse_int=Number, parse_float=Number, parse_constant=_no_constant
)
