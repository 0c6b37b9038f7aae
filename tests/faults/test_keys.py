"""Keys that OfferGrid does not take any more, while orders go on."""

from gateway.broker.vault import Secret
from tests.accept.world import World, a_world, wait_until
from tests.cli.conftest import Program
from tests.faults.matrix import row

FIRST, SECOND = "sandbox-revoked-first", "sandbox-key-second"


@row(
    30,
    fault="401 to the active key, while the team has a second one that OfferGrid was seen to accept",
    answer="201 with the second key; placed",
    holds="one order, two attempts; the first key is refused, with a row in the audit log, and not used again",
)
def test_row_30_a_second_key_takes_over_in_the_same_request() -> None:
    with a_world() as world:
        token = world.token_of("lender", team="two-keys", key=FIRST)
        with world.stack.administration() as admin:
            first = admin.keys("two-keys")[0]
            second = admin.add_key("two-keys", Secret(SECOND))
        program = Program(world.stack.folder, world.stack.environ)
        tried = program("key", "verify", "two-keys", second.key_id, "--json").value
        assert tried == {"team": "two-keys", "keyId": second.key_id, "state": "standby"}
        # The running gateway follows the directory in one piece: who knows the tenant after this knows the key, too.
        world.token_of("later", team="two-keys")
        answer = world.order("k", token=token)
        assert answer.status_code == 201
        assert [_key(call.headers) for call in world.calls if call.method == "POST"] == [FIRST, SECOND]
        attempts = world.shown(answer.headers["ordergate-order-id"], token=token)["attempts"]
        assert [attempt["status"] for attempt in attempts] == [401, 201]
        with world.stack.administration() as admin:
            wait_until(
                lambda: admin.key("two-keys", first.key_id).state == "refused", "the first key to be refused"
            )
        wait_until(lambda: _used(world, token) == SECOND, "the first key not to be used any more")
        refused = program("key", "verify", "two-keys", first.key_id)
        assert (refused.status, refused.out) == (1, "")
        assert "does not accept" in refused.err


def _key(headers: list[tuple[str, str]]) -> str:
    return next(value for name, value in headers if name.lower() == "x-api-key")


def _used(world: World, token: str) -> str:
    """The first key that a new order was tried with."""
    before = len(world.calls)
    assert world.order(token=token).status_code == 201
    return _key(world.calls[before].headers)
