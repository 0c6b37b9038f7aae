"""Defects of finding out: what a listing is taken to say."""

from typing import Final

from tests.sabotage.defect import Defect

_ABSENCE: Final = "gateway/core/absence.py"
_PROOFS: Final = "tests/core/test_absence.py"
_COVERS: Final = f"{_PROOFS}::test_a_listing_covers_an_order_exactly_where_it_holds_all_of_its_witnesses"
_STATEMENTS: Final = "gateway/ledger/sqlite_reconcile.py"
_FINDINGS: Final = "gateway/flow/findings.py"
_RECONCILE: Final = "gateway/flow/reconcile.py"
_SETTLING: Final = "tests/ledger/test_reconciling.py"
_LOOKING: Final = "tests/flow/test_reconcile.py"
_LOOKS: Final = f"{_PROOFS}::test_every_sequence_of_four_looks"

DEFECTS: Final = (
    Defect(
        name="A listing that is not whole proves that an order is absent.",
        file=_ABSENCE,
        text='    if not listing.whole or mode == "never":\n',
        by='    if mode == "never":\n',
        test=f"{_PROOFS}::test_modes",
    ),
    Defect(
        name="A listing without its witnesses proves that an order is absent.",
        file=_ABSENCE,
        text='    if mode == "trusted":\n',
        by="    if True:\n",
        test=_COVERS,
    ),
    Defect(
        name="Witnesses count without their metadata.",
        file=_ABSENCE,
        text="        if order.gateway_ledger == ledger_id\n",
        by="",
        test=f"{_PROOFS}::test_a_witness_without_its_metadata_or_under_another_id_bears_no_witness",
    ),
    Defect(
        name="Where the ledger knows of no placed order, any listing proves that an order is absent.",
        file=_ABSENCE,
        text="return None if listing.orders or witnesses.cut else EVERY",
        by="return EVERY",
        test=f"{_PROOFS}::test_where_nothing_is_known_only_an_empty_listing_says_anything",
    ),
    Defect(
        name="One listing proves that an order is absent.",
        file=_ABSENCE,
        text="            proof.first = began\n        return False\n",
        by="            return True\n        return False\n",
        test=_LOOKS,
    ),
    Defect(
        name="Two listings in one breath prove that an order is absent.",
        file=_ABSENCE,
        text="return began >= proof.first + self._terms.interval_s",
        by="return True",
        test=_LOOKS,
    ),
    Defect(
        name="A listing that was begun before `settle_after_s` proves that an order is absent.",
        file=_ABSENCE,
        text="elif began >= proof.seen + self._terms.settle_after_s:",
        by="else:",
        test=_LOOKS,
    ),
    Defect(
        name="A listing that lacks what the one before it held still agrees with it.",
        file=_ABSENCE,
        text="agrees = sight is not None and self._held <= sight.upstream_ids",
        by="agrees = sight is not None",
        test=_LOOKS,
    ),
    Defect(
        name="An order that is listed is absent.",
        file=_ABSENCE,
        text="        if not covered or proof.listed:\n",
        by="        if not covered:\n",
        test=_LOOKS,
    ),
    Defect(
        name="A proof goes on although the order was sent again meanwhile.",
        file=_ABSENCE,
        text="if proof is None or proof.version != order.version:",
        by="if proof is None:",
        test=f"{_PROOFS}::test_an_orders_time_begins_anew_with_its_version",
    ),
    Defect(
        name="A listing that says that there is more counts as whole.",
        file="gateway/core/listing.py",
        text="        and not pages[-1].signs.further\n",
        by="",
        test="tests/core/test_listing.py::test_signs_of_further_pages_at_any_depth",
    ),
    Defect(
        name="A listing that claims more orders than it holds counts as whole.",
        file="gateway/core/listing.py",
        text="        and max(page.signs.orders for page in pages) <= count\n",
        by="",
        test="tests/core/test_listing.py::test_signs_of_further_pages_at_any_depth",
    ),
    Defect(
        name="An entry that cannot be read leaves a listing whole.",
        file="gateway/core/listing.py",
        text="        not any(page.odd for page in pages)\n        and not pages[0]",
        by="        not pages[0]",
        test="tests/core/test_listing.py::test_an_entry_that_is_no_order_is_left_out_and_makes_doubt",
    ),
    Defect(
        name="Looking for orders takes more than the reserve.",
        file="gateway/core/cadence.py",
        text="return self._since(now - PACE_WINDOW_S) < self._per_minute",
        by="return True",
        test="tests/core/test_cadence.py::test_a_listing_of_more_pages_than_the_reserve_has_calls_waits_for_them",
    ),
    Defect(
        name="A find settles whatever has become of the order meanwhile.",
        file=_STATEMENTS,
        text="WHERE order_id = :order_id AND version = :version AND outcome = :before",
        by="WHERE order_id = :order_id AND :version > 0 AND outcome = :before",
        test=f"{_SETTLING}::test_a_stale_version_changes_nothing",
    ),
    Defect(
        name="Absence settles an order that is not unknown.",
        file=_STATEMENTS,
        text="WHERE order_id = :order_id AND version = :version AND outcome = 'unknown'",
        by="WHERE order_id = :order_id AND version = :version",
        test=f"{_SETTLING}::test_each_change_is_made_over_what_it_expects_and_once",
    ),
    Defect(
        name="An operator resolves an order that is not unknown.",
        file=_STATEMENTS,
        text='        raise LedgerStale(f"order {by.order_id} is not unknown")\n',
        by="""\
        connection.execute("UPDATE orders SET outcome = 'unknown' WHERE order_id = ?", (by.order_id,))
        row = connection.execute(_UNRESOLVED, (by.order_id,)).fetchone() or (0, 0)
""",
        test=f"{_SETTLING}::test_each_change_is_made_over_what_it_expects_and_once",
    ),
    Defect(
        name="An operator's word is not audited.",
        file=_STATEMENTS,
        text='who=by.who, action="order resolve", subject=by.order_id, change=change)\n',
        by='who=by.who, action="order resolve", subject=by.order_id, change=change) if by.at_ms < 0 else None\n',
        test=f"{_SETTLING}::test_an_operators_word_is_audited_with_it",
    ),
    Defect(
        name="An order that was settled by absence is not watched.",
        file=_STATEMENTS,
        text="watch_until_tick = :tick + :watch_ms",
        by="watch_until_tick = NULL",
        test=f"{_LOOKING}::test_an_order_that_turns_up_while_it_is_watched_is_placed_and_an_alarm",
    ),
    Defect(
        name="One order at OfferGrid places two of a team's orders.",
        file=_STATEMENTS,
        text="if connection.execute(_TAKEN, (team_id, upstream_order_id, order_id)).fetchone() is not None:",
        by="if False:",
        test=f"{_SETTLING}::test_one_upstream_order_is_not_two_of_a_team",
    ),
    Defect(
        name="Another team's orders bear witness.",
        file=_STATEMENTS,
        text="WHERE team_id = ?1 AND outcome = 'placed'\n  AND settled_tick >",
        by="WHERE ?1 > 0 AND outcome = 'placed'\n  AND settled_tick >",
        test=f"{_SETTLING}::test_witnesses_are_the_teams_placed_orders_since_then_and_the_last_one_before",
    ),
    Defect(
        name="Orders of the account that a team has left bear witness.",
        file=_STATEMENTS,
        text="  AND settled_tick > coalesce((SELECT account_tick FROM teams WHERE team_id = ?1), -1)\n",
        by="",
        test=f"{_SETTLING}::test_what_was_placed_in_an_earlier_account_bears_no_witness",
    ),
    Defect(
        name="A duplicate is counted each time that it is seen.",
        file=_STATEMENTS,
        text="    return connection.changes() == 1\n",
        by="    return True\n",
        test=f"{_SETTLING}::test_a_stray_is_new_once",
    ),
    Defect(
        name="A second order at OfferGrid is no alarm.",
        file=_FINDINGS,
        text='            if await self._note("duplicate", team_id, order_id, entry):\n',
        by="            if False:\n",
        test=f"{_LOOKING}::test_several_upstream_orders_of_one_are_an_alarm_each_once_and_for_all",
    ),
    Defect(
        name="A late placement is not counted.",
        file=_FINDINGS,
        text="        self._metrics.late_placement()\n",
        by="",
        test=f"{_LOOKING}::test_an_order_that_turns_up_while_it_is_watched_is_placed_and_an_alarm",
    ),
    Defect(
        name="What OfferGrid refused and has all the same is no alarm.",
        file=_FINDINGS,
        text='                        if await self._note("late", state.team_id, state.order_id, entry):\n',
        by="                        if False:\n",
        test=f"{_LOOKING}::test_an_order_that_offergrid_refused_and_has_is_an_alarm_and_stays",
    ),
    Defect(
        name="Another ledger's orders are counted at each look.",
        file=_RECONCILE,
        text="new = sorted(shown.foreign - team.foreign)",
        by="new = sorted(shown.foreign)",
        test=f"{_LOOKING}::test_orders_of_another_ledger_are_counted_once",
    ),
    Defect(
        name="A look that came to nothing leaves the proof as it was.",
        file=_RECONCILE,
        text="                finding = team.absence.looked(began, None, unknown)\n",
        by="                finding = Finding(absent=(), complete=False)\n",
        test=f"{_LOOKING}::test_a_look_that_came_to_nothing_begins_the_proof_anew",
    ),
    Defect(
        name="Every process looks, whoever leads.",
        file=_RECONCILE,
        text="if self._intake.quarantined or not self._ledger.leads():",
        by="if self._intake.quarantined:",
        test=f"{_LOOKING}::test_who_does_not_lead_does_not_look_and_knows_nothing_when_it_comes_to",
    ),
    Defect(
        name="Every look does without witnesses.",
        file="gateway/flow/looking.py",
        text="sight = sight_of(listing, witnesses=wanted.witnesses, ledger_id=self._ledger_id, mode=self._mode)",
        by='sight = sight_of(listing, witnesses=wanted.witnesses, ledger_id=self._ledger_id, mode="trusted")',
        test=f"{_LOOKING}::test_a_listing_that_is_not_complete_decides_nothing",
    ),
)
