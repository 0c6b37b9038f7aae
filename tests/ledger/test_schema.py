"""The schema is the last to say no: what the statements never write, it does not take either."""

import asyncio
from pathlib import Path

import apsw
import pytest

from tests.ledger.ledger_tools import ENDED, a_ledger, alter, claimed, end, new_order

OWN = ("order_id", "key_digest", "upstream_order_id")
"""Of these no two orders of one tenant and one team share any."""


@pytest.mark.parametrize("shared", [*OWN, "nothing"])
def test_the_schema_itself_refuses_a_second_row(tmp_path: Path, shared: str) -> None:
    path = tmp_path / "o.db"

    async def first() -> None:
        async with a_ledger(path) as ledger:
            await ledger.settle(await claimed(ledger, new_order("k")), ENDED, end("placed", "up-1"))

    asyncio.run(first())
    connection = apsw.Connection(str(path))
    columns = [name for (_, name, *_) in connection.execute("PRAGMA table_info(orders)") if name != "seq"]
    connection.close()
    values = [f"'another' || {name}" if name in OWN and name != shared else name for name in columns]
    second = f"INSERT INTO orders ({', '.join(columns)}) SELECT {', '.join(values)} FROM orders".replace(  # noqa: S608 - names of ours
        "'another' || key_digest", "x'00'"
    )
    if shared == "nothing":
        alter(path, second)
        return
    with pytest.raises(apsw.ConstraintError, match=shared):
        alter(path, second)
