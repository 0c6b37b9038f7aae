"""A gateway in front of an OfferGrid that fails on request, and what each case leaves behind on all sides.

    want = scene.want()                              one thing that a tenant wants once
    answer = scene.send(want)                        asked for, now and as often as one likes
    order_id = scene.told(answer, 502, "outcome-unknown", "unknown")
    scene.is_placed_in_the_end(want, order_id)       found out by looking, and told the same way from then on

`scene.end()` checks the promise from both sides over everything that ever happened in this scene.
"""

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from gateway.sandbox.records import Order, Request
from gateway.sandbox.thread import SandboxThread
from tests.accept.world import wait_until
from tests.support import promise
from tests.support.front import Front
from tests.support.looked_at import LOOKED_AT
from tests.support.promise import Told
from tests.support.records import records_of, rows_of, watch_history
from tests.support.stack import UPSTREAM_KEY, Stack, an_order, running_stack

# What every scene has in common: no breaker and no limit that one case could leave to the next; unknown orders are
# looked for often, and proven absent soon.
COMMON: Final[dict[str, Any]] = {
    "program": LOOKED_AT,
    "upstream__breaker_failures": 1_000_000,
    "budget__per_minute": 0,
    "budget__per_hour": 0,
    "budget__reserved_per_minute": 1_000_000,
    "reconcile__interval_s": 0.1,
    "reconcile__settle_after_s": 0.5,
}


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a tenant wants once: the same key and the same body each time. `mark` stands in its notes."""

    mark: str
    body: dict[str, Any]


class Scene(msgspec.Struct, kw_only=True):
    sandbox: SandboxThread
    stack: Stack
    client: httpx.Client
    front: Front
    heard: list[Told]
    orders_before: int = 0
    calls_before: int = 0

    # -- a case: begins, goes on, ends

    def begin(self) -> None:
        """From here on `taken` and `posts` are this case's."""
        self.orders_before = len(self.sandbox.orders)
        self.calls_before = len(self.sandbox.calls)

    def end(self) -> None:
        """Everything heals, every order is found out about, and the promise has held."""
        self.sandbox.clear_faults()
        self.front.heal()
        ledger = Path(self.stack.folder / "var/ordergate.db")
        wait_until(lambda: not promise.nothing_unsettled(rows_of(ledger)), "an end of every doubt")
        assert not promise.broken(records_of(told=self.heard, sandbox=self.sandbox, ledger=ledger))
        said = [line for line in self.stack.process.log if line["event"] in ("defect", "text")]
        assert not said, said

    # -- what the tenant does

    def want(self, **members: Any) -> Want:
        mark = uuid.uuid4().hex
        return Want(mark=mark, body=an_order(notes=mark, **members))

    def send(self, want: Want) -> httpx.Response:
        asked_at = time.monotonic()
        answer = self.client.post("/orders", json=want.body, headers={"idempotency-key": want.mark})
        self.heard.append(
            promise.told(
                tenant="shop",
                key=want.mark,
                mark=want.mark,
                status=answer.status_code,
                headers=answer.headers,
                body=answer.content,
                asked_at=asked_at,
                told_at=time.monotonic(),
            )
        )
        return answer

    def view(self, order_id: str) -> dict[str, Any]:
        """The ledger's view of the order."""
        answer = self.client.get(f"/orders/{order_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def attempts(self, order_id: str) -> list[tuple[str, int | None]]:
        """Evidence and status of each attempt."""
        return [(attempt["evidence"], attempt["status"]) for attempt in self.view(order_id)["attempts"]]

    def took_s(self) -> float:
        """How long the last answer took, as the tenant saw it."""
        asked_at, told_at = self.heard[-1].asked_at, self.heard[-1].told_at
        assert asked_at is not None and told_at is not None
        return told_at - asked_at

    # -- what the sandbox has

    @property
    def taken(self) -> list[Order]:
        """The orders that the sandbox took in this case."""
        return self.sandbox.orders[self.orders_before :]

    @property
    def posts(self) -> list[Request]:
        """The orders whose headers came in at the sandbox in this case, taken or not."""
        return [call for call in self.sandbox.calls[self.calls_before :] if call.method == "POST"]

    # -- what must be so

    def told(self, answer: httpx.Response, status: int, kind: str, outcome: str) -> str:
        """The problem is that one, and safe to repeat, and the ledger says the same; the order's id."""
        found: dict[str, Any] = answer.json()
        assert (answer.status_code, found["type"]) == (status, f"/problems/{kind}")
        assert (found["outcome"], found["retryable"]) == (outcome, True)
        assert int(answer.headers["retry-after"]) >= 1
        assert UPSTREAM_KEY not in answer.text + str(answer.headers)
        order_id: str = found["orderId"]
        assert answer.headers["ordergate-order-id"] == order_id
        if outcome == "unknown":
            # By now it may have been found out already.
            assert self.view(order_id)["outcome"] in ("unknown", "placed", "not_placed")
        else:
            view = self.view(order_id)
            assert (view["outcome"], view["httpStatus"]) == (outcome, status)
        return order_id

    def is_unknown(self, answer: httpx.Response, status: int = 502, *, answered: int | None = None) -> str:
        """Doubt, of one attempt of which a byte may have left, or that was `answered` with that. The order's id."""
        order_id = self.told(answer, status, "outcome-unknown", "unknown")
        evidence = "sent" if answered is None else "answered"
        assert self.attempts(order_id) == [(evidence, answered)]
        return order_id

    def is_unavailable(self, answer: httpx.Response) -> str:
        """503 because nothing was sent, as each of its attempts says. The order's id."""
        order_id = self.told(answer, 503, "upstream-unavailable", "not_placed")
        assert set(self.attempts(order_id)) == {("not_sent", None)}
        return order_id

    def is_placed(self, want: Want, answer: httpx.Response) -> str:
        """201 with the sandbox's own bytes of an order of this want; upstream's id."""
        assert answer.status_code == 201, answer.text
        (order,) = [order for order in self.taken if order.data["notes"] == want.mark]
        assert answer.json()["orderId"] == order.order_id
        view = self.view(answer.headers["ordergate-order-id"])
        assert (view["outcome"], view["upstreamOrderId"]) == ("placed", order.order_id)
        return order.order_id

    def becomes(self, outcome: str, order_id: str) -> None:
        wait_until(lambda: self.view(order_id)["outcome"] == outcome, f"order {order_id} {outcome}")

    def is_placed_in_the_end(self, want: Want, order_id: str, posts: int = 1) -> None:
        """Found out by looking: placed, as OfferGrid lists it; and the same want gets that, each time the same."""
        self.becomes("placed", order_id)
        (order,) = [order for order in self.taken if order.data["notes"] == want.mark]
        view = self.view(order_id)
        assert (view["upstreamOrderId"], view["upstreamStatus"]) == (order.order_id, order.status)
        listed = httpx.get(
            self.sandbox.base_url + "/reseller/orders", headers={"x-api-key": UPSTREAM_KEY}, trust_env=False
        )
        first, second = self.send(want), self.send(want)
        for answer in (first, second):
            assert (answer.status_code, answer.headers["idempotent-replayed"]) == (201, "true")
            assert answer.headers["ordergate-order-id"] == order_id
            assert answer.content in listed.content, "the order as OfferGrid lists it"
        assert first.content == second.content
        assert len(self.posts) == posts, "doubt is never sent again"

    def is_not_placed_in_the_end(self, want: Want, order_id: str) -> None:
        """Found out by looking: OfferGrid does not have it; and only then is the same want sent again, and placed."""
        sent = len(self.posts)
        self.becomes("not_placed", order_id)
        assert not [order for order in self.taken if order.data["notes"] == want.mark]
        assert len(self.posts) == sent, "doubt is never sent again"
        self.is_tried_again(want, order_id)
        assert len(self.posts) == sent + 1

    @contextmanager
    def nothing_is_found_out(self) -> Iterator[None]:
        """Inside the block every listing fails."""
        self.sandbox.set_fault("status", code=500, count=0, match={"method": "GET"})
        yield
        self.sandbox.clear_faults()

    def works_again(self) -> None:
        """An order of its own is placed as if nothing had been."""
        want = self.want()
        self.is_placed(want, self.send(want))

    def is_tried_again(self, want: Want, order_id: str) -> None:
        """The same want, once the fault is gone: placed, under the same order id."""
        answer = self.send(want)
        self.is_placed(want, answer)
        assert answer.headers["ordergate-order-id"] == order_id

    # -- what the operator sees

    def metric(self, name: str, **labels: str) -> float:
        """The sum over every series of that name with (at least) those labels."""
        text = httpx.get(self.stack.admin_url + "/metrics", trust_env=False).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    @contextmanager
    def memory_grows_less_than(self, mebibytes: float) -> Iterator[None]:
        """The gateway's resident memory, at its highest inside the block, over what it was before."""
        process = Path(f"/proc/{self.stack.process.pid}")
        before = _kib(process, "VmRSS")
        (process / "clear_refs").write_text("5")  # the highest so far is forgotten
        yield
        grown = (_kib(process, "VmHWM") - before) / 1024
        assert grown < mebibytes, f"{grown:.1f} MiB more than before"


def _kib(process: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB", (process / "status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@contextmanager
def a_scene(
    *,
    direct: bool = False,
    host: str | None = None,
    receive_bytes: int | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[Scene]:
    """`direct`: the gateway connects to the sandbox itself, not to the front; `host`: to the front by that name, in
    TLS. `environ` is added to the gateway's. `settings` as for `running_stack`.
    """
    with (
        SandboxThread(per_minute=0, per_hour=0, idle_s=86_400) as sandbox,
        Front(sandbox.port, receive_bytes=receive_bytes) as front,
    ):
        base_url = (
            sandbox.base_url if direct else front.base_url if host is None else f"https://{host}:{front.port}"
        )
        with running_stack(upstream_base_url=base_url, **{**COMMON, **settings}) as stack:
            if environ is not None:
                stack.environ.update(environ)
                stack.restart()
            watch_history(stack.folder / "var/ordergate.db")
            with stack.client() as client:
                yield Scene(sandbox=sandbox, stack=stack, client=client, front=front, heard=[])


def for_one_case(scene: Scene) -> Iterator[Scene]:
    """For a fixture: the scene, healed and with the promise checked at the end."""
    scene.begin()
    yield scene
    scene.end()
