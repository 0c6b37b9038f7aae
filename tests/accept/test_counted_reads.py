"""What operators read with a key counts as everything that the key carries: it comes from the reserve."""

import json
from collections import Counter

from gateway.broker.vault import Secret
from tests.accept.world import World, a_world
from tests.cli.conftest import Program
from tests.support.stack import UPSTREAM_KEY

LIMITS = {"budget__per_minute": 10, "budget__per_hour": 1000, "budget__reserved_per_minute": 2}


def _left(world: World) -> float:
    found = world.admin("GET", "/metrics").text.splitlines()
    return min(float(line.rpartition(" ")[2]) for line in found if line.startswith("ordergate_budget_remaining{"))


def test_trying_a_key_is_counted_and_waits_for_nothing_that_it_must_not_have() -> None:
    with a_world(**LIMITS) as world:
        program = Program(world.stack.folder, world.stack.environ)
        with world.stack.administration() as admin:
            key_id = admin.keys("team")[0].key_id
            other = admin.add_key("team", Secret("sandbox-key-other"))
        for _ in range(2):
            assert program("key", "verify", "team", key_id).status == 0
        assert len(world.calls) == 2
        # Another key has a budget of its own.
        assert program("key", "verify", "team", other.key_id).status == 0
        for _ in range(8):
            assert world.order().status_code == 201
        assert world.order().status_code == 429
        checked = json.loads(program("doctor", "--json").out)
        said = [check for check in checked if "reserve" in check["detail"] or "no_budget" in check["detail"]]
        assert said, checked
        used = Counter(_key(call.headers) for call in world.calls)
        assert used == {UPSTREAM_KEY: 10, "sandbox-key-other": 1, None: 1}, "the doctor also looks without a key"


def _key(headers: list[tuple[str, str]]) -> str | None:
    return next((value for name, value in headers if name.lower() == "x-api-key"), None)
