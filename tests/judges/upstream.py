"""An OfferGrid of forty lines that takes every order and writes down what came. It stands behind Prism's proxy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple


class Taken(NamedTuple):
    """One order as it arrived: header names in lower case, the body decoded, and the answer's bytes."""

    headers: dict[str, str]
    body: Any
    answer: bytes


class Upstream(NamedTuple):
    base_url: str
    taken: list[Taken]


@contextmanager
def taking_upstream() -> Iterator[Upstream]:
    """Answers every POST with 201 and an order id of its own, everything else with 404."""
    taken: list[Taken] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = json.dumps(
                {"orderId": f"ord-{len(taken)}", "items": [], "createdAt": "2025-01-02T10:00:00Z"}
            ).encode()
            taken.append(Taken({name.lower(): value for name, value in self.headers.items()}, body, answer))
            self.send_response(201)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Upstream(f"http://127.0.0.1:{server.server_port}", taken)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
