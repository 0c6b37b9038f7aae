"""No secret and no customer's text is found where it has no business: a real gateway, everything it does and says.

At log level debug, with orders of all kinds, an OfferGrid that echoes keys and breaks off, broken requests, every
command that changes or shows something, administration over HTTP, and a rotation of the master key in between.
"""

import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import apsw
import httpx
import msgspec
import pytest

from gateway.broker.administration import NewTenant
from gateway.broker.key_file import KeyFile
from gateway.broker.master_key import Masters
from gateway.broker.vault import LedgerKey, Secret
from gateway.clock import SystemClock
from gateway.sandbox import SandboxThread
from tests.cli.conftest import COMMAND, Program
from tests.secrets.canaries import forms, found, without
from tests.support.stack import Stack, an_order, outer_environ, running_stack

CUSTOMER: Final = "Kanari Vogelsang"
MAIL: Final = "kanari.vogelsang@canary.example"
BODY: Final = "canary-in-the-body-of-offergrid"
IDEMPOTENCY_KEY: Final = "canary-idempotency-key"
KEYS: Final = {
    "first": "sandbox-key-canary-first-4f1d",
    "second": "sandbox-key-canary-second-77aa",
    "over HTTP": "sandbox-key-canary-http-90be",
    "revoked": "sandbox-revoked-canary-13c8",
    "bad": "canary bad key 5512",
}
FAULTS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("echo_key", {}), ("echo_key", {"code": 500}),
    ("status", {"code": 400, "body": json.dumps({"message": [BODY], "error": BODY, "statusCode": 400})}),
    ("status", {"code": 500, "body": BODY}), ("status", {"code": 403, "body": "{}"}), ("status", {"code": 429}),
    ("html_4xx", {}), ("garbage", {}), ("truncate", {}), ("wrong_length", {}), ("extra_bytes", {}), ("redirect", {}),
    ("gzip_bomb", {}), ("place_then_reset", {}), ("reset_after_read", {}), ("place_then_500", {}), ("1xx_flood", {}),
)  # fmt: skip
OWN: Final = ("a customer", "an idempotency key", "a body")
"""What a tenant is told back of its own order, and an operator who asks for an order."""


class Seen(msgspec.Struct, kw_only=True):
    """What was searched for, and where. `places` by name; `own` are those that may hold what is the asker's own."""

    canaries: dict[str, bytes]
    places: dict[str, bytes]
    own: dict[str, bytes]
    shown: str


def materials(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Every version of the master key, and the ledger key."""
    path = stack.folder / "var/master.key"
    content = path.read_bytes()
    if len(content) == 32:
        yield "version 1 of the master key", content
    else:
        for line in content.splitlines()[1:-1]:
            version, _, digits = line.partition(b" ")
            yield f"version {version.decode()} of the master key", bytes.fromhex(digits.decode())
    connection = apsw.Connection(str(stack.folder / "var/ordergate.db"))
    rows: Any = connection.execute("SELECT name, value FROM meta").fetchall()
    connection.close()
    facts = dict(rows)
    masters = Masters(KeyFile(path, SystemClock()).read())
    key = LedgerKey.opened(facts["ledger_key"], masters, ledger_id=facts["ledger_id"])
    yield "the ledger key", key.given_to(bytes)


def admin_token_in(folder: Path) -> dict[str, str]:
    """Named in the settings, so that these hold it."""
    file = folder / "var/admin.token"
    file.write_text("canary-admin-token-2b6e8d1c9f0a4437")
    file.chmod(0o600)
    return {"ORDERGATE_ADMIN_API__TOKEN_FILE": str(file)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    walked = tmp_path_factory.mktemp("walk") / "shown"
    with SandboxThread(per_minute=0, per_hour=0) as sandbox, running_stack(
        upstream_base_url=sandbox.base_url,
        program=("tests.secrets.walking", "serve"),
        beside=lambda _: {"WALK_TO": str(walked)},
        log__level="debug",
        upstream__timeout_s=2,
        budget__per_minute=0,
        budget__per_hour=0,
        reconcile__interval_s=0.2,
        reconcile__settle_after_s=0.4,
    ) as stack:  # fmt: skip
        yield Play(stack, sandbox, walked).play()
        stack.start()


class Play:
    """The whole run, and what it left."""

    def __init__(self, stack: Stack, sandbox: SandboxThread, walked: Path) -> None:
        self.stack = stack
        self.sandbox = sandbox
        self.walked = walked
        self.program = Program(stack.folder, stack.environ)
        self.tokens = {"of shop": stack.token}
        self.places: dict[str, bytes] = {}
        self.own: dict[str, bytes] = {}
        self.keys: dict[str, bytes] = {}
        self.count = itertools.count()

    def play(self) -> Seen:
        self.keys |= dict(materials(self.stack))
        self.administer()
        self.order_all_kinds()
        self.send_what_is_broken()
        shown = self.walk()
        self.order("refused", ("echo_key", {"code": 401}))  # no order goes out with the key from here on
        self.administer_over_http()
        self.command()
        self.keys |= dict(materials(self.stack))
        self.look_at_processes()
        self.places["/metrics"] = self.metrics()
        self.take_files("while it runs")
        log = self.stack.process.log
        self.stack.process.kill()  # whatever it had in its log is there
        self.take_files("after a kill")
        self.places["the log"] = json.dumps(log, ensure_ascii=False).encode()
        secrets = {f"the token {name}": token.rpartition("_")[2] for name, token in self.tokens.items()}
        secrets |= {f"the upstream key {name}": key for name, key in KEYS.items()}
        secrets["the admin token"] = self.stack.admin_token.strip()
        texts = {
            "a customer": CUSTOMER,
            "a customer's mail": MAIL,
            "a body": BODY,
            "an idempotency key": IDEMPOTENCY_KEY,
        }
        canaries = {name: text.encode() for name, text in {**secrets, **texts}.items()} | self.keys
        return Seen(canaries=canaries, places=self.places, own=self.own, shown=shown)

    def administer(self) -> None:
        with self.stack.administration() as admin:
            admin.add_team("canary")
            admin.add_key("canary", Secret(KEYS["first"]))
            admin.add_tenant(NewTenant(name="canary", team="canary"))
            self.tokens["of canary"] = admin.issue_token("canary").token.text()
        until = time.monotonic() + 30
        while self.order("known", fault=None).status_code != 201:
            assert time.monotonic() < until
            time.sleep(0.05)

    def order(self, mark: str, fault: tuple[str, dict[str, Any]] | None, **headers: str) -> httpx.Response:
        if fault is not None:
            self.sandbox.set_fault(fault[0], **fault[1])
        customer = {"fullName": CUSTOMER, "email": MAIL, "phone": "+1-555-123-4567"}
        body = an_order(customerInfo=customer, notes=f"{CUSTOMER} {mark}")
        sent = {
            "authorization": f"Bearer {self.tokens['of canary']}",
            "idempotency-key": f"{IDEMPOTENCY_KEY}-{mark}-{next(self.count)}", **headers,
        }  # fmt: skip
        answer = httpx.post(self.stack.tenant_url + "/orders", json=body, headers=sent, trust_env=False, timeout=60)
        self.sandbox.clear_faults()
        self.take(f"the answer to {mark}", answer)
        return answer

    def take(self, name: str, answer: httpx.Response) -> None:
        """A success, and what OfferGrid said of a refused order, is the tenant's own; other problems are nobody's."""
        content = b"\\n".join((*(b"%b: %b" % pair for pair in answer.headers.raw), answer.content))
        own = answer.status_code < 400 or b'"upstream":' in answer.content
        (self.own if own else self.places)[f"{name} {next(self.count)}"] = content

    def order_all_kinds(self) -> None:
        for kind, options in FAULTS:
            self.order(kind.replace("_", "-"), (kind, options))
        again = {"idempotency-key": f"{IDEMPOTENCY_KEY}-again"}
        self.order("again", None, **again)
        self.order("again", None, **again)
        self.order("reused", None, **again)
        self.order("bad-key", None, **{"idempotency-key": f'"{IDEMPOTENCY_KEY}'})
        url, bearer = self.stack.tenant_url, {"authorization": f"Bearer {self.tokens['of canary']}"}
        with httpx.Client(base_url=url, headers=bearer, trust_env=False, timeout=60) as client:
            for body in (
                {}, {"items": CUSTOMER, "customerInfo": MAIL}, an_order(metadata={"gatewayX": CUSTOMER}),
                an_order(customerInfo={"fullName": [CUSTOMER], "email": 5, CUSTOMER: CUSTOMER}),
            ):  # fmt: skip
                self.take("an invalid order", client.post("/orders", json=body))
            for text in (f'{{"{CUSTOMER}": 1, "{CUSTOMER}": 2}}', f'{{"{CUSTOMER}', f'"{MAIL}"', f"[{CUSTOMER}]"):
                json_type = {"content-type": "application/json"}
                self.take("broken JSON", client.post("/orders", content=text, headers=json_type))
            self.take(
                "another type", client.post("/orders", content=CUSTOMER, headers={"content-type": "text/plain"})
            )
            self.take("too much", client.post("/orders", content=CUSTOMER.encode() * 20_000))
            for path in (
                f"/orders/{IDEMPOTENCY_KEY}",
                f"/orders?cursor={IDEMPOTENCY_KEY}",
                f"/{CUSTOMER}?t={KEYS['first']}",
            ):
                self.take("a path", client.get(path))
            self.own["the orders"] = client.get("/orders").content
        for shown in (self.tokens["of canary"] + "x", self.tokens["of canary"][:-1] + "a", KEYS["first"]):
            self.take("a wrong token", httpx.get(url + "/orders", headers={"x-api-key": shown}, trust_env=False))

    def send_what_is_broken(self) -> None:
        """Bytes that are no HTTP, or nearly."""
        token, host = self.tokens["of canary"], urlsplit(self.stack.tenant_url)
        bearer = f"host: x\r\nauthorization: Bearer {token}\r\n"
        twice = "host: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n"
        for number, text in enumerate((
            f"POST /orders HTTP/1.1\r\n{bearer}bad header {CUSTOMER}\r\n\r\n",
            f"POST /orders?token={token} HTTP/1.1\r\n{twice}{CUSTOMER}",
            f"{token} {CUSTOMER}\r\n\r\n", f"GET /{token} HTTP/9.9\r\nx-api-key: {token}\r\n\r\n",
            f"POST /orders HTTP/1.1\r\n{bearer}transfer-encoding: {CUSTOMER}\r\n\r\n",
            f"GET /orders HTTP/1.1\r\nhost: {token}\r\nx-request-id: {CUSTOMER}\r\ntraceparent: {token}\r\n\r\n",
        )):  # fmt: skip
            with socket.create_connection((host.hostname or "", host.port or 0), timeout=30) as connection:
                connection.sendall(text.encode())
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            self.places[f"the answer to broken bytes {number}"] = answer

    def administer_over_http(self) -> None:
        admin = {"authorization": f"Bearer {self.stack.admin_token.strip()}"}
        with httpx.Client(base_url=self.stack.admin_url, headers=admin, trust_env=False, timeout=60) as client:
            path = "/admin/teams/canary/keys"
            for body in (
                {"key": KEYS["over HTTP"]}, {"key": KEYS["bad"]}, {"key": [KEYS["over HTTP"]]},
            ):  # fmt: skip
                self.take("a key over HTTP", client.post(path, json=body))
            self.take("half a key", client.post(path, content=f'{{"key": "{KEYS["over HTTP"]}'))
            issued = client.post("/admin/tokens", json={"tenant": "canary"})
            assert issued.status_code < 300, issued.text
            self.tokens["over HTTP"] = issued.json()["token"]
            for path in (
                "/admin/teams", "/admin/teams/canary/keys", "/admin/tenants", "/admin/tokens?tenant=canary",
                "/admin/audit",
                "/openapi.json", "/admin/nothing", f"/admin/teams/{KEYS['first']}",
            ):  # fmt: skip
                self.take(path, client.get(path))
            self.places |= {name: self.own.pop(name) for name in list(self.own) if name.startswith(("/", "a key"))}
        for wrong in (self.stack.admin_token.strip()[:-1], self.tokens["of canary"]):
            self.take("a wrong admin token", httpx.get(self.stack.admin_url + "/admin/teams",
                      headers={"authorization": f"Bearer {wrong}"}, trust_env=False))  # fmt: skip

    def command(self) -> None:
        """Every command that changes or shows something; those that show an order show it to whoever may see it."""
        folder = self.stack.folder
        typed: Mapping[tuple[str, ...], str] = {
            ("key", "add", "canary", "--json"): f"{KEYS['second']}\n", ("key", "add", "canary"): f"{KEYS['revoked']}\n",
            ("key", "add", "nobody"): f"{KEYS['second']}\n",
            ("key", "add", "canary", "--traceback"): f"{KEYS['bad']}\n",
            ("key", "add", "nobody", "--traceback"): f"{KEYS['second']}\n",
        }  # fmt: skip
        for arguments, text in typed.items():
            self.take_command(arguments, text)
        key_ids = [key["keyId"] for key in self.program("key", "list", "canary", "--json").value]
        commands = [
            ("team", "list"), ("key", "list", "canary"), ("tenant", "list"), ("tenant", "show", "canary"),
            ("token", "list", "canary", "--json"), ("audit", "list", "--json"), ("audit", "verify"),
            ("doctor",), ("doctor", "--json"),
            ("config", "show"), ("config", "check"), ("db", "check"), ("secrets", "rotate", "--json"),
            ("secrets", "rotate"),
            ("db", "backup", str(folder / "backup.db")), ("token", "revoke", self.tokens["of shop"]),
            *(("key", "verify", "canary", key_id) for key_id in key_ids), ("key", "activate", "canary", key_ids[1]),
            ("key", "revoke", "canary", key_ids[0]), ("secrets", "rotate", "--drop-old"),
        ]  # fmt: skip
        for command in commands:
            self.take_command(command)
            self.keys |= dict(materials(self.stack))
        for shown in (("orders", "list", "--json"), ("orders", "list")):
            done = self.program(*shown)
            self.own[" ".join(shown)] = (done.out + done.err).encode()
        self.tokens["of a command"] = self.program("token", "issue", "canary").out.strip()

    def take_command(self, arguments: tuple[str, ...], typed: str = "") -> None:
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=self.stack.folder, env={**outer_environ(), **self.stack.environ}, input=typed,
            capture_output=True, text=True,
        )  # fmt: skip
        self.places[f"ordergate {' '.join(arguments[:3])} {next(self.count)}"] = (
            done.stdout + done.stderr
        ).encode()

    def look_at_processes(self) -> None:
        """The gateway's, and a command's that has read its key and waits for what follows."""
        self.take_process("the gateway", self.stack.process.pid)
        command = subprocess.Popen(
            [*COMMAND, "key", "add", "canary"], cwd=self.stack.folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**outer_environ(), **self.stack.environ},
        )  # fmt: skip
        with command:
            assert command.stdin is not None
            command.stdin.write(KEYS["second"].encode())
            command.stdin.flush()
            time.sleep(0.2)
            self.take_process("a command", command.pid)
            command.kill()

    def take_process(self, name: str, pid: int) -> None:
        for file in ("cmdline", "environ"):
            path = Path(f"/proc/{pid}/{file}")
            try:
                self.places[f"{file} of {name}"] = path.read_bytes()
            except PermissionError:  # the process lets nobody but root look at it
                self.places[f"{file} of {name}"] = b""

    def metrics(self) -> bytes:
        admin = {"authorization": f"Bearer {self.stack.admin_token.strip()}"}
        return httpx.get(self.stack.admin_url + "/metrics", headers=admin, trust_env=False, timeout=60).content

    def walk(self) -> str:
        """While an order waits for OfferGrid: its request and its key are in hand."""
        self.sandbox.set_fault("slow", after_s=1.5)
        waiting = threading.Thread(target=self.order, args=("in-hand", None))
        waiting.start()
        self.stack.process.signal(signal.SIGUSR2)
        until = time.monotonic() + 60
        while not self.walked.exists():
            assert time.monotonic() < until, "it never showed its objects"
            time.sleep(0.05)
        waiting.join()
        shown = self.walked.read_text("utf-8")
        self.own["what objects show"] = shown.encode()
        return shown

    def take_files(self, when: str) -> None:
        """Every file but those two whose very content is the secret."""
        for path in sorted(self.stack.folder.rglob("*")):
            if path.is_file() and path.name not in ("master.key", "admin.token"):
                self.places[f"{path.relative_to(self.stack.folder)} {when}"] = path.read_bytes()


def test_no_canary_is_found_where_it_has_no_business(seen: Seen) -> None:
    assert found(seen.places, seen.canaries) == []


def test_what_is_an_askers_own_holds_no_secret_all_the_same(seen: Seen) -> None:
    """Nor does any object of the gateway's show one, to whoever prints it; orders in hand show what they are about."""
    assert found(seen.own, without(seen.canaries, OWN)) == []


def test_it_was_looked_where_something_could_be(seen: Seen) -> None:
    """And what may stand somewhere does: a search that finds nothing has to have had something to find."""
    names = " ".join((*seen.places, *seen.own))
    for place in (
        "var/ordergate.db while", "var/ordergate.db-wal while", "var/ordergate.db-wal after", "backup.db", "the log",
        "/metrics", "cmdline of the gateway", "environ of a command", "ordergate doctor", "the answer to echo-key",
        "the answer to broken bytes", "ordergate.db.mark", "a wrong token", "broken JSON", "an invalid order",
    ):  # fmt: skip
        assert place in names, place
    # With its own key in hand, what OfferGrid said came back: nothing of the run was for nothing.
    assert sum(place.startswith("the answer to") for place in seen.own) >= len(FAULTS) // 2
    assert "order-rejected" in str(seen.own) and "***" in str(seen.own), "the echo is masked"
    assert all(content for place, content in seen.places.items() if "answer" in place)
    assert found(seen.own, {"a customer": CUSTOMER.encode(), "an idempotency key": IDEMPOTENCY_KEY.encode()})
    for name in (
        "broker.vault.Secret",
        "broker.vault.Vault",
        "master_key.MasterKey",
        "LentKey",
        "settings.model.Settings",
    ):
        assert name in seen.shown, name
    assert "Secret(***)" in seen.shown
    assert b'"debug"' in seen.places["the log"] or b'"info"' in seen.places["the log"]
    kinds = {name.rpartition(" ")[0] for name in seen.canaries}
    assert {"the upstream key", "the token of"} <= kinds and len(seen.canaries) >= 15


def test_every_canary_planted_in_any_place_and_form_is_found(seen: Seen) -> None:
    for place, content in seen.places.items():
        if len(content) > 200_000:
            continue  # the same search, only longer
        for name, canary in seen.canaries.items():
            assert found({place: content + canary}, {name: canary}), (place, name)
    for name, canary in seen.canaries.items():
        for form in forms(canary):
            assert found({"a place": b"before" + form + b"after"}, {name: canary}), (name, form)


def test_what_a_careless_program_would_leave_is_found(seen: Seen, tmp_path: Path) -> None:
    """Each canary put where it could really get: in a row, and so in the log; in an argument; in the environment."""
    ledger = tmp_path / "o.db"
    connection = apsw.Connection(str(ledger))
    connection.pragma("journal_mode", "WAL")
    connection.execute("CREATE TABLE leaks (name TEXT, leak ANY)")
    for name, canary in seen.canaries.items():
        connection.execute("INSERT INTO leaks VALUES (?, ?)", (name, canary))
    places = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    leaks = found(places, seen.canaries)
    assert {leak.partition(" holds ")[2] for leak in leaks} == set(seen.canaries)
    assert all(leak.startswith("o.db-wal") for leak in leaks)
    connection.close()
    for text in (KEYS["first"], CUSTOMER):
        process = subprocess.Popen(
            [sys.executable, "-c", "input()", text], stdin=subprocess.PIPE, env={"LEAK": text}
        )
        with process:
            for file in ("cmdline", "environ"):
                path = Path(f"/proc/{process.pid}/{file}")
                until = time.monotonic() + 30
                while not found({file: path.read_bytes()}, {"it": text.encode()}):  # it has yet to begin
                    assert time.monotonic() < until, file
                    time.sleep(0.01)
            process.kill()
