"""A 401 to one of a team's keys: another usable one in the same request, and the first is not used again."""

import asyncio
from pathlib import Path

import apsw
import pytest

from gateway.broker.directory import LentKey
from gateway.broker.vault import Secret
from tests.flow.flow_tools import KEY, TENANT, a_gateway, answered, placed, said
from tests.ledger.ledger_tools import alter

BESIDE = LentKey(key_id="key-2", secret=Secret("canary-second-key"))


def _with_a_key(path: Path) -> None:
    alter(path, "INSERT INTO teams (team_id, name, created_ms) VALUES (3, 'team', 0)")
    alter(
        path,
        "INSERT INTO upstream_keys (key_id, team_id, state, sealed_key, created_ms)"
        " VALUES ('key-1', 3, 'active', x'', 0)",
    )


def _ask(path: Path, statement: str) -> object:
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(statement).get
    finally:
        connection.close()


def test_another_key_is_used_in_the_same_request_and_the_first_is_refused_once(tmp_path: Path) -> None:
    path = tmp_path / "o.db"

    async def play() -> None:
        async with a_gateway(path, answered(401), placed(), answered(401), placed("up-2")) as gateway:
            _with_a_key(path)
            gateway.keys[-TENANT.team_id] = BESIDE
            answer = await gateway.place("k")
            assert answer.status == 201
            assert gateway.upstream.keys == [KEY.secret, BESIDE.secret]
            assert gateway.story == ["claim", "send", "next", "send", "settle"], "each attempt is durable first"
            stored = await gateway.stored(answer.order_id)
            assert [attempt.status for attempt in stored.attempts] == [401, 201]
            await gateway.place("another")  # this instance has not heard of it yet
            await gateway.intake.drain(30)
            assert gateway.log.getvalue().count('"key_refused"') == 1

    asyncio.run(play())
    assert _ask(path, "SELECT state FROM upstream_keys") == "refused"
    assert _ask(path, "SELECT count(*) FROM audit") == 1
    assert _ask(path, "SELECT value FROM meta WHERE name = 'directory_version'") == 2
    assert _ask(path, "SELECT group_concat(key_id) FROM attempts WHERE number = 2") == "key-2,key-2"


@pytest.mark.parametrize("beside", [None, BESIDE])
def test_401_to_every_key_is_not_placed(tmp_path: Path, beside: LentKey | None) -> None:
    async def play() -> None:
        async with a_gateway(tmp_path / "o.db", answered(401)) as gateway:
            if beside is not None:
                gateway.keys[-TENANT.team_id] = beside
            answer = await gateway.place("k")
            assert (answer.status, said(answer)["type"]) == (502, "/problems/upstream-credentials")
            assert said(answer)["outcome"] == "not_placed"
            assert len(gateway.upstream.bodies) == (1 if beside is None else 2)

    asyncio.run(play())


def test_no_other_key_without_half_of_the_time(tmp_path: Path) -> None:
    async def play() -> None:
        async def late() -> object:
            await asyncio.sleep(0.3)
            return answered(401)

        async with a_gateway(tmp_path / "o.db", late, placed(), timeout_s=0.5) as gateway:  # type: ignore[arg-type]  # evidence, later
            gateway.keys[-TENANT.team_id] = BESIDE
            assert (await gateway.place("k")).outcome == "not_placed"
            assert len(gateway.upstream.bodies) == 1

    asyncio.run(play())
