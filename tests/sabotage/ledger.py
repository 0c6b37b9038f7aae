"""Defects of the ledger: what is durable when, and who may write what."""

from typing import Final

from tests.sabotage.defect import Defect

_ORDERS: Final = "gateway/ledger/sqlite_orders.py"
_WRITER: Final = "gateway/ledger/sqlite_writer.py"
_ENGINE: Final = "gateway/ledger/sqlite_engine.py"
_REAP: Final = "gateway/ledger/sqlite_reap.py"
_SCHEMA: Final = "gateway/ledger/migrations/0001_first.sql"
_CLAIMS: Final = "tests/ledger/test_claims.py"
_DISK: Final = "tests/ledger/test_disk_faults.py"
_EXPIRY: Final = "tests/ledger/test_expiry.py"
_OWNER: Final = "tests/ledger/test_owner.py"

DEFECTS: Final = (
    Defect(
        name="Whoever waits for a write is told before it is committed.",
        file=_WRITER,
        text="                    if not job.run(self._connection):\n",
        by="""\
                    ran = job.run(self._connection)
                    self._loop.call_soon_threadsafe(job.deliver)
                    if not ran:
""",
        test=f"{_DISK}::test_a_failed_commit_is_undecided_and_ends_the_ledger",
    ),
    Defect(
        name="A commit does not wait for its fsync.",
        file=_ENGINE,
        text='connection.pragma("synchronous", "FULL")',
        by='connection.pragma("synchronous", "NORMAL")',
        test="tests/ledger/test_durability.py::test_every_acknowledged_write_was_synced_first",
    ),
    Defect(
        name="A commit that failed counts as not written.",
        file=_ENGINE,
        text="if not isinstance(fault, (*_OCCUPIED, *_CERTAINLY_UNDONE)) and not _had_no_room(connection, fault):",
        by="if False:",
        test=f"{_DISK}::test_a_failed_commit_is_undecided_and_ends_the_ledger",
    ),
    Defect(
        name="After a failed fsync the ledger goes on taking writes.",
        file=_WRITER,
        text="""\
        if isinstance(fault, LedgerUndecided):
            self.broken.set()
""",
        by="",
        test=f"{_DISK}::test_a_failed_commit_is_undecided_and_ends_the_ledger",
    ),
    Defect(
        name="Writes that were queued behind a failed fsync are written.",
        file=_WRITER,
        text="while not isinstance(fault, LedgerUndecided) and (group := self._jobs.take(MAX_GROUP)):",
        by="while group := self._jobs.take(MAX_GROUP):",
        test=f"{_DISK}::test_a_writer_that_was_not_sure_of_a_commit_makes_no_other",
    ),
    Defect(
        name="One write's refusal undoes its neighbours in the same commit.",
        file=_WRITER,
        text='            self.fault = LedgerError(f"{type(fault).__name__}: {fault}")\n',
        by="            raise\n",
        test="tests/ledger/test_writer.py::test_a_job_that_raises_undoes_itself_and_not_its_neighbours",
    ),
    Defect(
        name="What a write did before it was refused is committed with its neighbours.",
        file=_WRITER,
        text="""\
handed to whoever waits for this job
            self.fault = fault
            connection.execute("ROLLBACK TO job")
""",
        by="""\
handed to whoever waits for this job
            self.fault = fault
""",
        test="tests/ledger/test_writer.py::test_a_job_that_raises_undoes_itself_and_not_its_neighbours",
    ),
    Defect(
        name="An order is settled by whoever holds an old version of it.",
        file=_ORDERS,
        text="WHERE order_id = :order_id AND version = :version AND outcome = :before AND owner = :owner",
        by="WHERE order_id = :order_id AND :version > 0 AND outcome = :before AND owner = :owner",
        test=f"{_CLAIMS}::test_a_stale_holder_changes_nothing",
    ),
    Defect(
        name="An order is settled by a process that does not own it.",
        file=_ORDERS,
        text="AND outcome = :before AND owner = :owner",
        by="AND outcome = :before AND :owner > 0",
        test=f"{_OWNER}::test_a_living_process_keeps_its_orders_and_a_gone_one_does_not",
    ),
    Defect(
        name="An attempt is opened by a process that does not own the order.",
        file=_ORDERS,
        text="AND outcome = 'in_flight' AND owner = :owner",
        by="AND outcome = 'in_flight' AND :owner > 0",
        test=f"{_OWNER}::test_nobody_sends_another_processs_order",
    ),
    Defect(
        name="A queued order is started by a process that does not own it.",
        file=_ORDERS,
        text="AND outcome = 'queued' AND owner = :owner",
        by="AND outcome = 'queued' AND :owner > 0",
        test=f"{_OWNER}::test_nobody_sends_another_processs_order",
    ),
    Defect(
        name="An order that was in flight when its process died becomes not placed.",
        file="gateway/ledger/sqlite_recover.py",
        text="UPDATE orders SET outcome = 'unknown', version",
        by="UPDATE orders SET outcome = 'not_placed', version",
        test="tests/ledger/test_durability.py::test_recovered_orders_say_what_is_known_of_them",
    ),
    Defect(
        name="Orders of a living process are taken over.",
        file="gateway/ledger/sqlite_owner.py",
        text="if epoch != self.epoch and self._is_free(epoch, 1)]",
        by="if epoch != self.epoch]",
        test=f"{_OWNER}::test_a_living_process_keeps_its_orders_and_a_gone_one_does_not",
    ),
    Defect(
        name="A process whose lock nobody can see holds its orders for its own.",
        file="gateway/ledger/sqlite_owner.py",
        text='for end in ("-wal", "-shm", ".owner")))',
        by='for end in ("-wal", "-shm")))',
        test=f"{_OWNER}::test_who_cannot_be_seen_by_others_does_not_own",
    ),
    Defect(
        name="A ledger whose files were removed or replaced is written on.",
        file="gateway/ledger/sqlite_owner.py",
        text="        return found == self._seen\n",
        by="        return True\n",
        test="tests/ledger/test_shared_file.py::test_a_ledger_whose_file_is_another_one_takes_no_more_orders",
    ),
    Defect(
        name="An order that is unknown is tried again.",
        file=_ORDERS,
        text="""\
        if same_body and row.outcome == "not_placed":
""",
        by="""\
        if same_body and row.outcome in ("not_placed", "unknown"):
""",
        test=f"{_CLAIMS}::test_a_known_key_is_answered_with_its_order",
    ),
    Defect(
        name="The schema takes two orders of one key.",
        file=_SCHEMA,
        text="CREATE UNIQUE INDEX one_order_a_key",
        by="CREATE INDEX one_order_a_key",
        test="tests/ledger/test_schema.py::test_the_schema_itself_refuses_a_second_row",
    ),
    Defect(
        name="The schema takes two orders that are one at OfferGrid.",
        file=_SCHEMA,
        text="CREATE UNIQUE INDEX one_row_an_upstream_order",
        by="CREATE INDEX one_row_an_upstream_order",
        test="tests/ledger/test_schema.py::test_the_schema_itself_refuses_a_second_row",
    ),
    Defect(
        name="An answer with another order's id places this one.",
        file=_ORDERS,
        text="if settlement.upstream_order_id is not None and connection.execute(_TAKEN, taken).fetchone():",
        by="if False:",
        test="tests/ledger/test_writer.py::test_an_upstream_order_belongs_to_one_order_of_the_team",
    ),
    Defect(
        name="A tenant's key finds another tenant's order.",
        file="gateway/ledger/sqlite_rows.py",
        text="WHERE tenant_id = :tenant_id AND key_digest = :key_digest",
        by="WHERE :tenant_id > 0 AND key_digest = :key_digest",
        test=f"{_CLAIMS}::test_equal_digests_of_two_tenants_name_two_orders",
    ),
    Defect(
        name="A tenant's body finds another tenant's order.",
        file="gateway/ledger/sqlite_rows.py",
        text="WHERE tenant_id = :tenant_id AND fingerprint = :fingerprint",
        by="WHERE :tenant_id > 0 AND fingerprint = :fingerprint",
        test=f"{_CLAIMS}::test_equal_digests_of_two_tenants_name_two_orders",
    ),
    Defect(
        name="Two tenants' keys and bodies have the same digests.",
        file="gateway/flow/describe.py",
        text='scope = tenant.scope.encode() + b":"',
        by='scope = b""',
        test="tests/flow/test_describe.py::test_digests_are_the_tenants_own",
    ),
    Defect(
        name="A tenant reads another tenant's order.",
        file="gateway/ledger/sqlite_rows.py",
        text="WHERE order_id = :order_id AND :tenant_id IN (tenant_id, 0)",
        by="WHERE order_id = :order_id AND :tenant_id >= 0",
        test="tests/accept/test_reading.py::test_404_not_found_is_the_same_for_every_order_that_is_not_yours",
    ),
    Defect(
        name="A body names a settled order for ever, whatever the window.",
        file="gateway/ledger/sqlite_rows.py",
        text="  AND (settled_tick IS NULL OR settled_tick > :settled_after_tick)\n",
        by="  AND :settled_after_tick IS NOT NULL\n",
        test="tests/flow/test_known.py::test_a_window_of_nothing_forgets_settled_orders_and_keeps_unsettled_ones",
    ),
    Defect(
        name="Keys expire and windows close by the wall clock.",
        file="gateway/ledger/ledger_time.py",
        text="return int(self._clock.monotonic() * 1000)",
        by="return self._clock.wall_ms()",
        test=f"{_EXPIRY}::test_a_step_of_the_wall_clock_changes_nothing",
    ),
    Defect(
        name="The key of an unsettled order expires.",
        file="gateway/ledger/sqlite_rows.py",
        text="if self._settled_tick is None or self._settled_tick + ttl_ms > tick:",
        by="if (self._settled_tick or 0) + ttl_ms > tick:",
        test=f"{_EXPIRY}::test_an_unsettled_order_keeps_its_key_for_ever",
    ),
    Defect(
        name="Unsettled orders are forgotten.",
        file=_REAP,
        text="seq > :after AND seq <= :upto AND settled_tick <= :settled_by",
        by="seq > :after AND seq <= :upto AND coalesce(settled_tick, 0) <= :settled_by",
        test=f"{_EXPIRY}::test_an_unsettled_order_keeps_its_key_for_ever",
    ),
    Defect(
        name="Watched orders are forgotten.",
        file=_REAP,
        text="AND (watch_until_tick IS NULL OR watch_until_tick <= :now)",
        by="AND :now >= 0",
        test=f"{_EXPIRY}::test_a_watched_order_is_kept_until_its_watch_is_over",
    ),
    Defect(
        name="A team's last witness is forgotten.",
        file=_REAP,
        text="AND (outcome <> 'placed' OR (",
        by="AND (:now >= 0 OR (",
        test=f"{_EXPIRY}::test_what_is_over_is_forgotten_and_what_bears_witness_is_not",
    ),
    Defect(
        name="What OfferGrid answered lies in the ledger unsealed.",
        file=_ORDERS,
        text="else self._seals.seal(content, table=TABLE, row=claimed.order_id, column=column)",
        by="else content",
        test="tests/ledger/test_durability.py::test_nothing_of_an_orders_content_rests_in_the_clear",
    ),
    Defect(
        name="Idempotency keys lie in the ledger unsealed.",
        file=_ORDERS,
        text='sealed_key = self._seals.seal(key, table=TABLE, row=order.order_id, column="idempotency_key")',
        by="sealed_key = key",
        test="tests/ledger/test_durability.py::test_nothing_of_an_orders_content_rests_in_the_clear",
    ),
    Defect(
        name="Orders are forgotten while a body may still name them.",
        file="gateway/flow/upkeep.py",
        text="        return max(self._ttl_s, self._implicit_window_s, *windows)\n",
        by="        return min(self._ttl_s, *windows, 1e9)\n",
        test="tests/flow/test_upkeep.py::test_an_order_is_kept_for_as_long_as_its_key_or_anybodys_body_may_name_it",
    ),
    Defect(
        name="How an attempt ended that nobody saw is written down as the next one's end.",
        file=_ORDERS,
        text="  AND number = (SELECT max(number) FROM attempts WHERE order_id = :order_id)\n",
        by="",
        test=f"{_OWNER}::test_how_an_attempt_ended_that_nobody_saw_is_never_said",
    ),
    Defect(
        name="A ledger that cannot be trusted any more owns its orders.",
        file="gateway/ledger/sqlite.py",
        text="return not self._writer.broken.is_set() and self._owner.intact()",
        by="return self._owner.intact()",
        test=f"{_DISK}::test_a_failed_commit_is_undecided_and_ends_the_ledger",
    ),
)
