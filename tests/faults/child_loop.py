"""`ordergate serve` in which one of the loops beside its orders ends with a defect, once an order was placed.

The environment's `ENDS` says which: `Upkeep`, `Reconciler` or `Reloader`.
"""

import asyncio
import os
import sys
from typing import Any, Final

from gateway.cli.main import main
from gateway.flow.reconcile import Reconciler
from gateway.flow.upkeep import Upkeep
from gateway.web.orders import OrderEndpoint
from gateway.wiring.reloading import Reloader

LOOPS: Final[dict[str, Any]] = {"Upkeep": Upkeep, "Reconciler": Reconciler, "Reloader": Reloader}


def patch() -> None:
    loop, endpoint, placed = LOOPS[os.environ["ENDS"]], OrderEndpoint.__call__, asyncio.Event()

    async def run(_self: Any) -> None:
        await placed.wait()
        raise RuntimeError("planted")

    async def watched(self: OrderEndpoint, *args: Any) -> None:
        await endpoint(self, *args)
        placed.set()

    loop.run = run
    OrderEndpoint.__call__ = watched  # type: ignore[method-assign, assignment]  # in this process alone


if __name__ == "__main__":
    patch()
    sys.argv[0] = "ordergate"
    main()
