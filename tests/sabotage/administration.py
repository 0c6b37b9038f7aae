"""Defects of administering teams, keys and tenants, and of the chain over the audit log."""

from typing import Final

from tests.sabotage.defect import Defect

_CHAIN: Final = "gateway/core/audit.py"
_LOG: Final = "gateway/ledger/sqlite_audit.py"
_KEYS: Final = "gateway/broker/keys.py"
_DIRECTORY: Final = "gateway/ledger/sqlite_directory.py"
_CHAINED: Final = "tests/ledger/test_audit.py"
_AUDITED: Final = "tests/broker/test_audited.py"

DEFECTS: Final = (
    Defect(
        name="A link says nothing of the rows before it.",
        file=_CHAIN,
        text='b"row" + before + numbers + content',
        by='b"row" + numbers + content',
        test=f"{_CHAINED}::test_a_row_of_another_history_of_the_same_log_is_seen",
    ),
    Defect(
        name="A link does not say where one text ends and the next begins.",
        file=_CHAIN,
        text='len(part).to_bytes(4, "big") + part for part',
        by="part for part",
        test=f"{_CHAINED}::test_a_letter_that_moved_to_the_next_column_is_seen",
    ),
    Defect(
        name="A link does not say when.",
        file=_CHAIN,
        text=' + row.at_ms.to_bytes(8, "big", signed=True)',
        by="",
        test=f"{_CHAINED}::test_a_row_with_any_other_value_is_named",
    ),
    Defect(
        name="The newest rows of the audit log can be cut off unseen.",
        file=_CHAIN,
        text="if broken is None and not is_end(",
        by="if False and not is_end(",
        test=f"{_CHAINED}::test_a_row_that_is_taken_out_is_named",
    ),
    Defect(
        name="A row in the middle of the audit log can be missing.",
        file=_CHAIN,
        text="    if row.number != before + 1:\n",
        by="    if False:\n",
        test=f"{_CHAINED}::test_a_row_that_is_taken_out_is_named",
    ),
    Defect(
        name="What is written behind a broken chain heals it.",
        file=_LOG,
        text="link if link is not None and is_end(marks, end, number, link) else BROKEN",
        by="link or START",
        test=f"{_CHAINED}::test_what_is_written_behind_a_log_that_is_not_whole_does_not_heal_it",
    ),
    Defect(
        name="A key's revoking is not audited.",
        file=_KEYS,
        text='                self._note("key revoke", key_id,',
        by='                str(("key revoke", key_id)) or self._note("key revoke", key_id,',
        test=f"{_AUDITED}::test_each_change_has_one_row",
    ),
    Defect(
        name="A key that OfferGrid refuses is put aside unaudited.",
        file=_DIRECTORY,
        text='    audit(connection, marks, at_ms=at_ms, who="gateway", action="key refused",',
        by='    str(change) or audit(connection, marks, at_ms=at_ms, who="gateway", action="key refused",',
        test=f"{_AUDITED}::test_each_change_has_one_row",
    ),
    Defect(
        name="A team turns to a new account while orders may lie in the old one.",
        file=_KEYS,
        text="if turns and (unsettled :=",
        by="if False and (unsettled :=",
        test=f"{_AUDITED}::test_what_is_refused_has_no_row",
    ),
    Defect(
        name="A key of another account is made the active one.",
        file=_KEYS,
        text="if not accepted(verdict) and not (new_account and",
        by="if False and not (new_account and",
        test=f"{_AUDITED}::test_what_is_refused_has_no_row",
    ),
    Defect(
        name="A tenant is removed while orders of its are in doubt.",
        file="gateway/broker/tenants.py",
        text="if fault := self._unsettled_of_tenant(tenant):",
        by="if fault := None:",
        test=f"{_AUDITED}::test_what_is_refused_has_no_row",
    ),
    Defect(
        name="Orders go to an account that the team has left.",
        file="gateway/ledger/migrations/0006_audit.sql",
        text="WHERE key_id = NEW.key_id AND upstream_keys.account <> teams.account)",
        by="WHERE key_id = NEW.key_id AND upstream_keys.account > teams.account)",
        test="tests/ledger/test_reconciling.py::test_nothing_is_sent_to_an_account_that_the_team_has_left",
    ),
)
