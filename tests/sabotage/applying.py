"""Defects of applying a file of teams and tenants."""

from typing import Final

from tests.sabotage.defect import Defect

_APPLYING: Final = "gateway/broker/applying.py"
_PLAN: Final = "gateway/core/tenants_plan.py"
_FILE: Final = "gateway/core/tenants_file.py"
_TESTS: Final = "tests/broker/test_applying.py"
_MODEL: Final = f"{_TESTS}::test_after_each_file_the_ledger_is_as_a_model_says_and_the_log_tells_it"
_FAULTS: Final = "tests/core/test_tenants_file.py"

DEFECTS: Final = (
    Defect(
        name="A plan is carried out although somebody else was faster.",
        file=_APPLYING,
        text="                if self._store.version() != prepared.rows.version:\n                    raise _Moved\n",
        by="",
        test=f"{_TESTS}::test_a_plan_that_is_out_of_date_is_made_anew",
    ),
    Defect(
        name="A tenant is removed although an order of it came since the plan was made.",
        file=_APPLYING,
        text="        if fault := self._unsettled(step):\n            yield fault\n        elif",
        by="        if",
        test=f"{_TESTS}::test_an_order_that_comes_between_plan_and_deed_is_seen",
    ),
    Defect(
        name="A file is carried out as far as it goes.",
        file=_APPLYING,
        text='        if faults:\n            raise Refused("\\n".join(faults))\n        self._note_all',
        by="        self._note_all",
        test=f"{_TESTS}::test_an_order_that_comes_between_plan_and_deed_is_seen",
    ),
    Defect(
        name="Applying writes no audit rows.",
        file=_APPLYING,
        text="        self._note_all(prepared.shown.changes)\n",
        by="",
        test=_MODEL,
    ),
    Defect(
        name="A dry run does it.",
        file=_APPLYING,
        text="if dry_run or self.carry_out(prepared):",
        by="if self.carry_out(prepared) or dry_run:",
        test=_MODEL,
    ),
    Defect(
        name="An empty plan is a change.",
        file=_APPLYING,
        text="        if not prepared.steps:\n            return True\n",
        by="",
        test=_MODEL,
    ),
    Defect(
        name="What the file lacks is removed without being asked for.",
        file=_PLAN,
        text="(odd_teams, odd) if prune else ([], [])",
        by="(odd_teams, odd)",
        test=_MODEL,
    ),
    Defect(
        name="A file without a list of tenants removes them all.",
        file=_PLAN,
        text="odd = sorted(there.keys() - listed) if wanted.tenants is not None else []",
        by="odd = sorted(there.keys() - listed)",
        test=f"{_TESTS}::test_without_prune_what_the_file_lacks_stays_and_is_named",
    ),
    Defect(
        name="A tenant goes to another team, with its orders at the old one's account.",
        file=_PLAN,
        text="elif before is not None and before.team != tenant.team:",
        by="elif False:",
        test=f"{_TESTS}::test_all_that_cannot_be_done_is_told_and_nothing_is_done",
    ),
    Defect(
        name="Of two tenants of one name in a file the last one counts.",
        file=_FILE,
        text="what)\n                continue\n            yield from",
        by="what)\n            yield from",
        test=f"{_FAULTS}::test_what_is_good_in_a_bad_file_is_still_known",
    ),
    Defect(
        name="A number in the file's metadata is what a float makes of it.",
        file="gateway/core/tenants_scalars.py",
        text="        if _NUMBER.fullmatch(leaf.text):\n            return leaf.text\n",
        by="        if _NUMBER.fullmatch(leaf.text):\n            return repr(float(leaf.text))\n",
        test=f"{_FAULTS}::test_all_that_can_be_said_is_read",
    ),
)
