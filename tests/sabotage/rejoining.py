"""Defects of backups, of the mark beside a ledger, and of what a rejoin believes."""

from typing import Final

from tests.sabotage.defect import Defect

_MARK: Final = "gateway/ledger/mark.py"
_LOOKS: Final = "gateway/flow/rejoin.py"
_MARKS: Final = "tests/ledger/test_mark.py"
_READS: Final = "tests/flow/test_rejoin.py"

DEFECTS: Final = (
    Defect(
        name="A ledger in quarantine takes orders.",
        file="gateway/flow/place_order.py",
        text="            if self._intake.quarantined:\n",
        by="            if False:\n",
        test="tests/flow/test_place_order.py::test_in_quarantine_nothing_is_claimed_or_sent",
    ),
    Defect(
        name="A ledger in quarantine is reconciled.",
        file="gateway/flow/reconcile.py",
        text="if self._intake.quarantined or not self._ledger.leads():",
        by="if not self._ledger.leads():",
        test="tests/flow/test_reconcile.py::test_a_ledger_in_quarantine_is_not_looked_after",
    ),
    Defect(
        name="A backup that is put in place by hand is not known as one.",
        file="gateway/ledger/sqlite_backup.py",
        text='        put_into_quarantine(copy, Quarantine(reason="restored", since_tick=None))\n',
        by="        pass\n",
        test="tests/ledger/test_restore.py::test_a_backup_is_in_quarantine_by_itself",
    ),
    Defect(
        name="A ledger that is older than its mark takes orders.",
        file=_MARK,
        text="    elif mark is not None and mark.beat > last_beat(connection):\n",
        by="    elif False:\n",
        test=f"{_MARKS}::test_a_ledger_behind_its_mark_is_quarantined_for_good",
    ),
    Defect(
        name="A ledger whose mark names another one takes orders.",
        file=_MARK,
        text="    if mark is not None and mark.ledger != ledger_id:\n",
        by="    if False:\n",
        test=f"{_MARKS}::test_a_mark_of_another_ledger_or_of_none_is_quarantined",
    ),
    Defect(
        name="The mark goes back where an older ledger writes it.",
        file=_MARK,
        text="if there is None or there.ledger != mark.ledger or there.beat < mark.beat:",
        by="if there is None or True:",
        test=f"{_MARKS}::test_a_mark_never_goes_back_but_to_another_ledger",
    ),
    Defect(
        name="The mark is not written.",
        file="gateway/ledger/beats.py",
        text="        keep_mark(self._path, Mark(ledger=self._ledger_id, beat=number))\n",
        by="",
        test=f"{_MARKS}::test_each_durable_beat_is_marked",
    ),
    Defect(
        name="An older file in the place of an open ledger is written on.",
        file="gateway/ledger/beats.py",
        text="        if number <= self._last:\n",
        by="        if False:\n",
        test=f"{_MARKS}::test_a_beat_that_was_there_before_ends_the_trust",
    ),
    Defect(
        name="A ledger is restored under a running gateway.",
        file="gateway/ledger/sqlite_alone.py",
        text="            fcntl.fcntl(held, fcntl.F_OFD_SETLK, every)\n",
        by="            len(every)\n",
        test="tests/ledger/test_restore.py::test_no_process_begins_while_a_ledger_is_restored",
    ),
    Defect(
        name="A rejoin does not wait for what was on its way.",
        file=_LOOKS,
        text="while (left_ms := self._wait_ms()) > 0:",
        by="while (left_ms := 0) > 0:",
        test=f"{_READS}::test_the_listing_that_counts_is_read_after_the_wait",
    ),
    Defect(
        name="A rejoin believes a listing that says that there is more.",
        file=_LOOKS,
        text="        if not listing.whole:\n",
        by="        if False:\n",
        test=f"{_READS}::test_a_listing_without_an_end_is_in_doubt",
    ),
    Defect(
        name="A rejoin believes a listing that lacks what the ledger knows as placed.",
        file=_LOOKS,
        text="        if lacking:\n",
        by="        if False:\n",
        test=f"{_READS}::test_any_doubt_names_the_team",
    ),
    Defect(
        name="A rejoin believes a listing that lacks what it held before.",
        file=_LOOKS,
        text="        if any(gone):\n",
        by="        if False:\n",
        test=f"{_READS}::test_what_the_first_look_saw_the_second_must_hold",
    ),
    Defect(
        name="A rejoin passes over an order whose metadata was changed.",
        file=_LOOKS,
        text="            if isinstance(order, Unreadable):\n",
        by="            if False:\n",
        test=f"{_READS}::test_any_doubt_names_the_team",
    ),
    Defect(
        name="A rejoin forgets by which key an order was placed.",
        file="gateway/core/reentry.py",
        text="key_digest=bytes.fromhex(claim[1]) or None,",
        by="key_digest=None,",
        test="tests/core/test_reentry.py::test_an_order_of_ours_is_known_by_all_that_the_ledger_needs",
    ),
    Defect(
        name="A rejoin enters orders of another ledger.",
        file="gateway/core/reentry.py",
        text="for entry in reversed(listing.orders) if entry.gateway_ledger == ledger_id]",
        by="for entry in reversed(listing.orders) if entry.gateway_ledger is not None]",
        test="tests/core/test_reentry.py::test_orders_of_others_and_of_nobody_are_not_ours",
    ),
    Defect(
        name="A rejoin leaves an order in flight that OfferGrid has.",
        file="gateway/ledger/sqlite_rejoin.py",
        text="AND outcome IN ('queued', 'in_flight', 'unknown', 'not_placed')",
        by="AND outcome IN ('unknown', 'not_placed')",
        test="tests/ledger/test_entering.py::test_what_the_ledger_was_not_sure_of_becomes_placed",
    ),
    Defect(
        name="The quarantine ends before what was placed is entered.",
        file="gateway/ledger/sqlite_rejoin.py",
        text="    enters = _Enters(connection, seals, now)\n",
        by="""\
    end_quarantine(connection)
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    enters = _Enters(connection, seals, now)
""",
        test="tests/ledger/test_entering.py::test_what_fails_half_way_enters_nothing_and_the_quarantine_stays",
    ),
    Defect(
        name="A tenant that is made again has other digests than before.",
        file="gateway/flow/describe.py",
        text='scope = tenant.scope.encode() + b":"',
        by='scope = b"%d:" % tenant.tenant_id',
        test="tests/flow/test_describe.py::test_digests_rest_on_nothing_that_a_restored_ledger_cannot_know",
    ),
    Defect(
        name="What waited in a backup is called not placed before anybody has looked.",
        file="gateway/ledger/sqlite_recover.py",
        text="    if quarantine_of(connection) is not None:\n",
        by="    if False:\n",
        test="tests/ledger/test_owner.py::test_in_quarantine_nothing_is_taken_over_and_nothing_forgotten",
    ),
    Defect(
        name="Tenants are shown what a ledger in quarantine believes.",
        file="gateway/flow/known.py",
        text="    if intake.quarantined:\n",
        by="    if False:\n",
        test="tests/accept/test_rejoin.py::test_what_was_placed_after_the_backup_is_known_again",
    ),
    Defect(
        name="A rejoin passes over a team that it cannot read.",
        file="gateway/wiring/database.py",
        text="        if team.name not in without\n",
        by="        if team.name not in without and lent.key_of(team.team_id) is not None\n",
        test="tests/accept/test_rejoin.py"
        "::test_a_team_that_cannot_be_read_keeps_the_quarantine_but_for_an_operators_word",
    ),
    Defect(
        name="A rejoin takes two tenants that had one name, one after the other, for one.",
        file="gateway/ledger/sqlite_rejoin.py",
        text="found = self._by_scope.get(order.scope)\n",
        by="found = self._by_scope.get(order.tenant)\n",
        test="tests/ledger/test_entering.py::test_of_two_tenants_that_had_one_name_each_gets_its_own_orders",
    ),
    Defect(
        name="A name that is used again is the removed tenant's scope.",
        file="gateway/broker/tenants.py",
        text="if tenant.name in scopes else None",
        by="if tenant.name in () else None",
        test="tests/broker/test_administration.py::test_a_name_that_is_used_again_is_another_tenants_scope",
    ),
)
