"""Defects of what an answer means, and of what is sent again."""

from typing import Final

from tests.sabotage.defect import Defect

_OUTCOME: Final = "gateway/core/outcome.py"
_RESEND: Final = "gateway/core/resend.py"
_OUTCOMES: Final = "tests/core/test_outcome.py"
_RESENDS: Final = "tests/core/test_resend.py"

DEFECTS: Final = (
    Defect(
        name="A 5xx counts as not placed.",
        file=_OUTCOME,
        text="        case 429 if empty_or_json:\n",
        by="        case 429 | 500 | 502 | 503 | 504 if empty_or_json:\n",
        test=f"{_OUTCOMES}::test_everything_else_is_unknown",
    ),
    Defect(
        name="A 408 counts as not placed.",
        file=_OUTCOME,
        text="        case 429 if empty_or_json:\n",
        by="        case 408 | 429 if empty_or_json:\n",
        test=f"{_OUTCOMES}::test_everything_else_is_unknown",
    ),
    Defect(
        name="A proxy's page with a 4xx counts as OfferGrid's refusal.",
        file=_OUTCOME,
        text="case status if 400 <= status < 500 and isinstance(value, dict):",
        by="case status if 400 <= status < 500:",
        test=f"{_OUTCOMES}::test_any_other_4xx_without_an_object_is_unknown",
    ),
    Defect(
        name="A proxy's page with a 403 counts as not acted on.",
        file=_OUTCOME,
        text="        case 403 if empty_or_json:\n",
        by="        case 403:\n",
        test=f"{_OUTCOMES}::test_refused_calls_with_a_strangers_body_prove_nothing",
    ),
    Defect(
        name="An order that was sent and not answered in time counts as not placed.",
        file=_OUTCOME,
        text='verdict=Verdict(outcome="unknown", cause=reason)',
        by='verdict=Verdict(outcome="not_placed" if reason == "timeout" else "unknown", cause=reason)',
        test=f"{_OUTCOMES}::test_sent_and_no_whole_answer",
    ),
    Defect(
        name="A 2xx without an order id counts as placed.",
        file=_OUTCOME,
        text="            if order_id is not None:\n",
        by="            if True:\n",
        test=f"{_OUTCOMES}::test_a_2xx_is_placed_by_its_order_id_alone",
    ),
    Defect(
        name="An order id that is empty or no text counts.",
        file=_OUTCOME,
        text="return found if isinstance(found, str) and found and is_text(found) else None",
        by="return None if found is None else str(found)",
        test=f"{_OUTCOMES}::test_a_2xx_is_placed_by_its_order_id_alone",
    ),
    Defect(
        name="Only a 201 counts as placed.",
        file=_OUTCOME,
        text="        case status if 200 <= status < 300:\n",
        by="        case 201:\n",
        test=f"{_OUTCOMES}::test_any_2xx_with_an_order_id_is_placed",
    ),
    Defect(
        name="An order is sent again after its connection broke.",
        file=_RESEND,
        text="        case NotSent() if attempts < MAX_UNSENT_ATTEMPTS:\n",
        by='        case _ if verdict.cause in ("unreachable", "broken") and attempts < MAX_UNSENT_ATTEMPTS:\n',
        test=f"{_RESENDS}::test_nothing_else_is_ever_sent_again",
    ),
    Defect(
        name="An order is sent again after a 5xx.",
        file=_RESEND,
        text='        case Answered() if verdict.cause == "throttled":\n',
        by='        case Answered() if verdict.cause == "throttled" or evidence.status >= 500:\n',
        test=f"{_RESENDS}::test_nothing_else_is_ever_sent_again",
    ),
    Defect(
        name="An order is sent again that its own process was not allowed to send.",
        file=_RESEND,
        text='        case NotSent(reason="too_late"):\n            return None\n',
        by="",
        test=f"{_RESENDS}::test_nothing_else_is_ever_sent_again",
    ),
    Defect(
        name="An attempt begins with less than half of the time left.",
        file=_RESEND,
        text="return pause if left_s - pause >= timeout_s / 2 else None",
        by="return pause if left_s - pause > 0 else None",
        test=f"{_RESENDS}::test_what_may_be_sent_again_waits_and_leaves_half_of_the_time",
    ),
    Defect(
        name="OfferGrid's `retry-after` is not waited for.",
        file=_RESEND,
        text="pause = float(retry_after_s(evidence.retry_after, wall_ms=wall_ms))",
        by="pause = UNSENT_PAUSES_S[0]",
        test=f"{_RESENDS}::test_what_may_be_sent_again_waits_and_leaves_half_of_the_time",
    ),
)
