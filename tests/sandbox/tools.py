"""What the sandbox's tests share: an order, a raw HTTP/1.1 client that shows every byte, and a running sandbox."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from gateway.sandbox import SandboxThread

KEY = "sandbox-key-test"
# Only a guard against a test that hangs: nothing asserts on it.
GUARD_S = 60


def order_body(**changes: Any) -> dict[str, Any]:
    return {
        "items": [{"offerId": "off-fiber-500"}],
        "serviceAddress": {
            "street": "123 Main St",
            "city": "San Francisco",
            "state": "CA",
            "zipCode": "94102",
            "country": "US",
        },
        "customerInfo": {"fullName": "John Doe", "email": "john@example.com", "phone": "+1-555-123-4567"},
        **changes,
    }


def post_bytes(body: dict[str, Any] | bytes | None = None, *, key: str = KEY) -> bytes:
    """`POST /reseller/orders` as bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body or order_body()).encode()
    return (
        b"POST /reseller/orders HTTP/1.1\r\nHost: offergrid.test\r\nContent-Type: application/json\r\n"
        + f"x-api-key: {key}\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        + content
    )


def get_bytes(path: str = "/reseller/orders", *, key: str = KEY) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: offergrid.test\r\nx-api-key: {key}\r\n\r\n".encode()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A client that reads answers by their content-length and keeps what was received and not read yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.rest = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def _more(self) -> bytes:
        data = self.sock.recv(65536)
        self.rest += data
        return data

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`. Raises EOFError when the connection ends before."""
        while mark not in self.rest:
            if not self._more():
                raise EOFError(self.rest)
        found, _, self.rest = self.rest.partition(mark)
        return found + mark

    def take(self, count: int) -> bytes:
        while len(self.rest) < count:
            if not self._more():
                raise EOFError(self.rest)
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    def head(self) -> Answer:
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return Answer(int(lines[0].split(" ")[1]), headers, b"")

    def answer(self) -> Answer:
        head = self.head()
        return head._replace(body=self.take(int(head.headers.get("content-length", "0"))))

    def all(self) -> bytes:
        """Everything until the server's FIN. Raises ConnectionResetError for an RST."""
        while self._more():
            pass
        found, self.rest = self.rest, b""
        return found


@contextmanager
def wire(sandbox: SandboxThread) -> Iterator[Wire]:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=GUARD_S) as sock:
        yield Wire(sock)


@contextmanager
def client(sandbox: SandboxThread, key: str = KEY) -> Iterator[httpx.Client]:
    headers = {"x-api-key": key}
    with httpx.Client(base_url=sandbox.base_url, headers=headers, trust_env=False, timeout=GUARD_S) as found:
        yield found


def place(sandbox: SandboxThread, *, key: str = KEY, **changes: Any) -> str:
    """Places one order and returns its id."""
    with wire(sandbox) as conn:
        conn.send(post_bytes(order_body(**changes), key=key))
        answer = conn.answer()
    assert answer.status == 201, answer
    return str(answer.json()["orderId"])


def wait_for_orders(sandbox: SandboxThread, count: int) -> None:
    tick = threading.Event()
    while len(sandbox.orders) != count:
        tick.wait(0.01)
