"""Draining waits for the orders in hand and takes no more."""

import asyncio

import pytest

from gateway.flow.answer import Answer
from gateway.flow.intake import Intake

ANSWER = Answer(status=201, body=b"", content_type="", outcome="placed")


def test_draining_waits_for_what_is_in_hand_and_takes_no_more() -> None:
    async def play() -> None:
        intake, go = Intake(), asyncio.Event()

        async def order() -> Answer:
            await go.wait()
            return ANSWER

        waiting = [asyncio.ensure_future(intake.run(order(), "o-1")) for _ in range(5)]
        await asyncio.sleep(0)
        assert len(intake) == 5
        assert intake.in_hand() == {"o-1"}
        assert await intake.drain(0.01) == 5, "those that did not end in time"
        assert intake.draining
        draining = asyncio.ensure_future(intake.drain(60))
        await asyncio.sleep(0)
        assert not draining.done()
        go.set()
        assert await draining == 0
        assert await asyncio.gather(*waiting) == [ANSWER] * 5
        assert intake.in_hand() == set()

    asyncio.run(play())


def test_a_defect_reaches_who_waits_and_no_place_is_lost() -> None:
    async def play() -> None:
        intake = Intake()

        async def order() -> Answer:
            raise RuntimeError("x")

        with pytest.raises(RuntimeError):
            await intake.run(order(), "o-1")
        assert len(intake) == 0
        assert await intake.drain(1) == 0

    asyncio.run(play())
