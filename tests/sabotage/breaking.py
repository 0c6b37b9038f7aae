"""Defects of the breaker, and of going on with another key of the team."""

from typing import Final

from tests.sabotage.defect import Defect

_BREAKER: Final = "gateway/core/breaker.py"
_BREAKING: Final = "tests/core/test_breaker.py"
_FAILOVER: Final = "tests/flow/test_failover.py"

DEFECTS: Final = (
    Defect(
        name="The breaker never opens.",
        file=_BREAKER,
        text="self._failed >= self._limit",
        by="self._failed < 0",
        test=f"{_BREAKING}::test_so_many_failures_in_a_row_open_it",
    ),
    Defect(
        name="An open breaker lets orders through.",
        file=_BREAKER,
        text='            return "no"\n        self._turn(HALF_OPEN, now)\n',
        by='            return "go"\n        self._turn(HALF_OPEN, now)\n',
        test=f"{_BREAKING}::test_while_it_is_not_closed_at_most_one_goes_in_each_period",
    ),
    Defect(
        name="A 4xx or a 429 counts as a failure of OfferGrid.",
        file=_BREAKER,
        text='return verdict.cause != "unusable_answer"',
        by='return verdict.outcome == "placed"',
        test=f"{_BREAKING}::test_any_usable_answer_begins_the_count_anew",
    ),
    Defect(
        name="What this process could not send counts as a failure of OfferGrid.",
        file=_BREAKER,
        text="            return None\n        case NotSent() | Sent():\n",
        by="            return False\n        case NotSent() | Sent():\n",
        test=f"{_BREAKING}::test_what_did_not_concern_offergrid_counts_for_nothing",
    ),
    Defect(
        name="Half open, everybody looks at once.",
        file=_BREAKER,
        text='        self._turn(HALF_OPEN, now)\n        return "look"\n',
        by='        self.state = HALF_OPEN\n        return "look"\n',
        test=f"{_BREAKING}::test_one_looks_and_a_whole_answer_closes_it",
    ),
    Defect(
        name="An open breaker is not asked again when an order's turn has come.",
        file="gateway/flow/place_order.py",
        text="        if isinstance(key, Refusal):  # things changed while the order waited\n",
        by='        if isinstance(key, Refusal) and key.why == "breaker":\n'
        "            key = self._gate._keys.key_of(request.tenant.team_id)\n"
        "        if not isinstance(key, LentKey):\n",
        test="tests/flow/test_breaking.py::test_an_order_that_waited_is_withdrawn_where_the_breaker_opened_meanwhile",
    ),
    Defect(
        name="A key that OfferGrid refused stays in use.",
        file="gateway/flow/sending.py",
        text="                self._intake.start(self._refuse(hand), hand.claim.order_id)\n",
        by="",
        test=f"{_FAILOVER}::test_another_key_is_used_in_the_same_request_and_the_first_is_refused_once",
    ),
    Defect(
        name="After a 401 the order goes out with the same key again.",
        file="gateway/flow/sending.py",
        text="                hand.key = another\n",
        by="",
        test=f"{_FAILOVER}::test_another_key_is_used_in_the_same_request_and_the_first_is_refused_once",
    ),
    Defect(
        name="A 401 is sent again although the team has no other key.",
        file="gateway/core/resend.py",
        text='if verdict.cause == "key_refused" and another_key:',
        by='if verdict.cause == "key_refused":',
        test="tests/core/test_resend.py::test_nothing_else_is_ever_sent_again",
    ),
    Defect(
        name="A key that nobody has verified takes over.",
        file="gateway/core/directory.py",
        text='(self.state == "standby" and self.verified_ms is not None)',
        by='self.state == "standby"',
        test="tests/broker/test_directory.py::test_only_a_usable_key_is_lent_and_an_unreadable_one_never",
    ),
)
