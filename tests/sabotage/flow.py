"""Defects of an order's way: what is sent when, what is told when, what is given back."""

from typing import Final

from tests.sabotage.defect import Defect

_PLACE: Final = "gateway/flow/place_order.py"
_PLACING: Final = "tests/flow/test_place_order.py"
_WAITING: Final = "tests/flow/test_waiting.py"

DEFECTS: Final = (
    Defect(
        name="An order is sent before its intent is written.",
        file=_PLACE,
        text="""\
            claim = await self._claim(order, request, self._attempt_with(key), patience)
            if not isinstance(claim, Claimed):
                return claim
            if claim.short is None:
""",
        by="""\
            early = Claimed(order_id=order.order_id, version=1)
            hand = self._sender.in_hand(early, request, key, times, began)
            body = self._describer.body(request, order, early)
            judged = await self._sender.send_until_known(hand, body)
            claim = await self._claim(order, request, self._attempt_with(key), patience)
            if not isinstance(claim, Claimed):
                return claim
            hand.claim = claim
            if claim.short is None:
                return await self._settle(hand, judged)
""",
        test=f"{_PLACING}::test_the_claim_is_durable_before_sending_and_the_end_before_telling",
    ),
    Defect(
        name="An order that cannot be claimed is sent all the same.",
        file=_PLACE,
        text="            return await self._refuse_new(refusal, order, request)\n        if isinstance(claim, Short):",
        by="            return Claimed(order_id=order.order_id, version=1)\n        if isinstance(claim, Short):",
        test=f"{_PLACING}::test_without_a_claim_nothing_is_sent",
    ),
    Defect(
        name="The tenant is answered before the order's end is durable.",
        file="gateway/flow/settle.py",
        text="                return await asyncio.shield(writing)\n",
        by="                return settlement if not writing.done() else await writing\n",
        test=f"{_PLACING}::test_an_answer_that_is_not_durable_in_time_is_not_told",
    ),
    Defect(
        name="An end whose commit is undecided is written again as if nothing had happened.",
        file="gateway/flow/settle.py",
        text="except (LedgerUndecided, LedgerStale, LedgerClosed):",
        by="except (LedgerStale, LedgerClosed):",
        test=f"{_PLACING}::test_an_undecided_end_is_unknown_and_not_written_again",
    ),
    Defect(
        name="An end that the ledger could not take at once is given up, and the order stays in flight.",
        file="gateway/flow/settle.py",
        text="                await asyncio.sleep(SETTLE_AGAIN_S)\n",
        by="                raise\n",
        test=f"{_PLACING}::test_an_end_that_the_ledger_refuses_is_written_once_it_can_be",
    ),
    Defect(
        name="A defect of the gateway's own while an order is on its way counts as not sent.",
        file="gateway/flow/sending.py",
        text="        hand.may_be_sent = True\n",
        by="        hand.may_be_sent = False\n",
        test=f"{_PLACING}::test_a_defect_while_sending_is_unknown_at_whatever_attempt",
    ),
    Defect(
        name="A further attempt goes out although it could not be written down.",
        file="gateway/flow/sending.py",
        text="                return found  # the attempt that is written down stays the last\n",
        by="                pass\n",
        test=f"{_PLACING}::test_a_further_attempt_that_cannot_be_written_down_is_not_sent",
    ),
    Defect(
        name="An order's bytes go out after its time to send is past.",
        file="gateway/flow/sending.py",
        text="may_send=lambda: self._clock.monotonic() < hand.send_by and self._ledger.owns(),",
        by="may_send=lambda: self._ledger.owns(),",
        test="tests/flow/test_sending.py::test_past_its_time_an_order_is_not_sent",
    ),
    Defect(
        name="An order's bytes go out from a process that does not hold its orders any more.",
        file="gateway/flow/sending.py",
        text="may_send=lambda: self._clock.monotonic() < hand.send_by and self._ledger.owns(),",
        by="may_send=lambda: self._clock.monotonic() < hand.send_by,",
        test=f"{_WAITING}::test_a_process_that_does_not_own_its_orders_sends_nothing",
    ),
    Defect(
        name="A tenant that hangs up stops its order in flight.",
        file="gateway/flow/intake.py",
        text="return await asyncio.shield(self.start(order, about))",
        by="return await self.start(order, about)",
        test=f"{_PLACING}::test_hanging_up_changes_nothing_for_an_order_in_flight",
    ),
    Defect(
        name="An order whose tenant hung up goes on waiting for its turn.",
        file="gateway/flow/line.py",
        text="if await self._admission.wait(turn, (hung_up, draining), wait_s=wait_s):",
        by="if await self._admission.wait(turn, (draining,), wait_s=wait_s):",
        test=f"{_WAITING}::test_an_order_that_is_not_sent_is_not_placed_and_may_be_tried_again",
    ),
    Defect(
        name="Orders go on waiting for their turn while the instance drains.",
        file="gateway/flow/line.py",
        text="if await self._admission.wait(turn, (hung_up, draining), wait_s=wait_s):",
        by="if await self._admission.wait(turn, (hung_up,), wait_s=wait_s):",
        test=f"{_WAITING}::test_an_order_that_is_not_sent_is_not_placed_and_may_be_tried_again",
    ),
    Defect(
        name="A withdrawn order is told so, and stays queued in the ledger.",
        file=_PLACE,
        text="        await self._settler.settle(claim, None, settlement)\n",
        by="",
        test=f"{_WAITING}::test_an_order_that_is_not_sent_is_not_placed_and_may_be_tried_again",
    ),
    Defect(
        name="A draining instance takes new orders.",
        file="gateway/flow/gate.py",
        text="        if self._intake.draining:\n",
        by="        if False:\n",
        test="tests/accept/test_error_table_shortage.py::test_503_draining",
    ),
    Defect(
        name="Draining does not wait for orders in flight.",
        file="gateway/flow/intake.py",
        text="                    await asyncio.wait(self._tasks)\n",
        by="                    break\n",
        test="tests/flow/test_intake.py::test_draining_waits_for_what_is_in_hand_and_takes_no_more",
    ),
    Defect(
        name="An order that had to wait never gives its place back.",
        file=_PLACE,
        text="""\
                if not isinstance(went, Short):
                    self._admission.leave()
""",
        by="                pass\n",
        test=f"{_WAITING}::test_every_wait_gives_its_place_back",
    ),
    Defect(
        name="An order that was sent at once never gives its place back.",
        file=_PLACE,
        text="        finally:\n            self._admission.leave()\n",
        by="        finally:\n            pass\n",
        test=f"{_PLACING}::test_every_end_gives_its_place_back",
    ),
    Defect(
        name="A place that comes free while its turn gives up is lost.",
        file="gateway/broker/admission.py",
        text="        if turn.future.done():\n            self.leave()\n",
        by="        if turn.future.done():\n",
        test="tests/broker/test_admission.py::test_who_gives_up_when_the_turn_has_come_gives_the_place_back",
    ),
    Defect(
        name="An order that the ledger knows is refused like a new one where none is taken.",
        file=_PLACE,
        text="        return refused(refusal.problem, request, refusal.retry_s) if known is None else",
        by="        return refused(refusal.problem, request, refusal.retry_s) if True else",
        test="tests/flow/test_known.py::test_what_is_placed_is_never_called_not_placed",
    ),
    Defect(
        name="The same key with another body is answered with the first order.",
        file="gateway/flow/known.py",
        text="    if not known.same_body:\n",
        by="    if False:\n",
        test=f"{_PLACING}::test_the_same_key_with_another_body_is_refused",
    ),
    Defect(
        name="An order that is still in hand is taken over by its own process.",
        file="gateway/ledger/sqlite_recover.py",
        text="return mine and order.order_id not in in_hand and self._claimers.get(order.order_id) not in in_hand",
        by="return mine",
        test=f"{_PLACING}::test_an_order_in_hand_is_not_recovered_at_any_step",
    ),
    Defect(
        name="An order that a defect left behind is nobody's for as long as its process lives.",
        file="gateway/ledger/sqlite_recover.py",
        text="        mine = order.owner == self._epoch\n",
        by="        mine = False\n",
        test=f"{_PLACING}::test_an_order_that_nobody_here_has_in_hand_any_more_is_recovered",
    ),
)
