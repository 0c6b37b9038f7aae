"""Defects of finding out: what a listing is taken to say."""

from typing import Final

from tests.sabotage.defect import Defect

_ABSENCE: Final = "gateway/core/absence.py"
_PROOFS: Final = "tests/core/test_absence.py"
_COVERS: Final = f"{_PROOFS}::test_a_listing_covers_an_order_exactly_where_it_holds_all_of_its_witnesses"
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
        test="tests/core/test_cadence.py::test_a_listing_of_more_pages_than_the_reserve_has_calls_settles_nothing_and_stays_in_it",
    ),
)
