"""Defects that break no order: something stays open, or in memory, for each thing that is over."""

from typing import Final

from tests.sabotage.defect import Defect

_LONG: Final = "tests/accept/test_leaks.py::test_nothing_is_held_on_to_after_thousands_of_requests_of_every_kind"

DEFECTS: Final = (
    Defect(
        name="Connections to OfferGrid that nobody uses any more stay open.",
        file="gateway/upstream/transport.py",
        text="        if self._pruning is None:\n            self._schedule_pruning()\n",
        by="",
        test=_LONG,
    ),
    Defect(
        name="An order that waited for a place leaves a task behind.",
        file="gateway/flow/line.py",
        text="            for watch in (hung_up, draining):\n                watch.cancel()\n"
        "            await asyncio.gather(hung_up, draining, return_exceptions=True)\n",
        by="            hung_up.cancel()\n            await asyncio.gather(hung_up, return_exceptions=True)\n",
        test=_LONG,
    ),
    Defect(
        name="Each connection of a tenant stays in memory when it is gone.",
        file="gateway/web/door.py",
        text="        handing.add_done_callback(self._arriving.discard)\n",
        by="",
        test=_LONG,
    ),
)
