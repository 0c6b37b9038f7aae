"""All defects, in the order of the page, and the page.

python -m tests.sabotage.every > docs/sabotage.md
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

from tests.sabotage import (
    administration,
    answers,
    applying,
    breaking,
    broker,
    flow,
    leaks,
    ledger,
    reconciling,
    rejoining,
    tenants,
    upstream,
)
from tests.sabotage.defect import Defect

GROUPS: Final[Mapping[str, Sequence[Defect]]] = {
    "The order's way": flow.DEFECTS,
    "The ledger": ledger.DEFECTS,
    "What an answer means": answers.DEFECTS,
    "The wire to OfferGrid": upstream.DEFECTS,
    "The tenants' side": tenants.DEFECTS,
    "Secrets and places": broker.DEFECTS,
    "Finding out": reconciling.DEFECTS,
    "Backups and rejoining": rejoining.DEFECTS,
    "Administration, and its log": administration.DEFECTS,
    "Teams and tenants as a file says": applying.DEFECTS,
    "Other keys, and leaving OfferGrid alone": breaking.DEFECTS,
    "Holding on to what is over": leaks.DEFECTS,
}
DEFECTS: Final[Sequence[Defect]] = tuple(defect for group in GROUPS.values() for defect in group)

_INTRODUCTION: Final = """\
# Sabotage

Who tests the tests? `make sabotage` does: it puts one deliberate defect at a time into a copy of the program, and asks
whether the test that must see it fails. A defect that no test sees is a hole in the tests, and the run fails.

This page is made from the list in `tests/sabotage/`: `python -m tests.sabotage.every > docs/sabotage.md`. `make test`
checks that every defect still finds the text that it replaces. `make sabotage ONLY="3 17"` runs some of them.
"""


def page() -> str:
    lines = [_INTRODUCTION]
    number = 0
    for group, defects in GROUPS.items():
        lines.append(
            f"\n## {group}\n\n| | what is broken | where | which test catches it |\n| --- | --- | --- | --- |\n"
        )
        for defect in defects:
            number += 1
            where = defect.file.removeprefix("gateway/")
            test = defect.test.removeprefix("tests/").replace("::", " ")
            lines.append(f"| {number} | {defect.name} | `{where}` | `{test}` |\n")
    return "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
