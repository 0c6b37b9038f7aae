"""Getting the bytes of a source: a file, or an address, within limits."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from codegen.errors import CodegenError

# OfferGrid's page is 5 KB, large public documents reach some 10 MB; more is no description of an interface.
MAX_BYTES = 16 * 1024 * 1024
# For the whole answer, however slowly it trickles.
TIMEOUT_S = 20.0


def is_url(source: str) -> bool:
    """Whether `source` is an address and not a file's name."""
    return source.startswith(("http://", "https://"))


def read_source(source: str) -> bytes:
    """The bytes of a file or an http(s) address. Raises CodegenError, line 1, when there are none to be had."""
    if is_url(source):
        return _fetch(source)
    try:
        with Path(source).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CodegenError(source, 1, f"cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise CodegenError(source, 1, f"larger than {MAX_BYTES} bytes")
    return data


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _connection(source: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection, not yet open, and the request target. It follows no redirects and asks no proxy."""
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise CodegenError(source, 1, f"not an address: {error}") from error
    if not host:
        raise CodegenError(source, 1, "not an address: no host")
    if parts.username or parts.password:
        raise CodegenError(source, 1, "an address with a user or password is not accepted")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S), target
    if not _is_loopback(host):
        raise CodegenError(source, 1, "plain http is accepted from this machine only; use https")
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S), target


def _fetch(source: str) -> bytes:
    connection, target = _connection(source)
    late = threading.Event()

    def hang_up(opened: socket.socket) -> None:
        # A socket's own timeout starts anew with every byte; this ends the whole answer.
        late.set()
        with contextlib.suppress(OSError):  # it is closed already
            opened.shutdown(socket.SHUT_RDWR)

    watch: threading.Timer | None = None
    try:
        connection.connect()
        watch = threading.Timer(TIMEOUT_S, hang_up, [connection.sock])
        watch.daemon = True
        watch.start()
        connection.request("GET", target, headers={"Accept-Encoding": "identity"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise CodegenError(source, 1, f"answered {answer.status} {answer.reason}; redirects are not followed")
        data = answer.read(MAX_BYTES + 1)
        # A read with a limit says nothing of a body that ended early; what is left over does.
        if len(data) <= MAX_BYTES and answer.length:
            raise CodegenError(source, 1, "the answer ended early")
    except (OSError, http.client.HTTPException) as error:
        why = f"no whole answer within {TIMEOUT_S:g} s" if late.is_set() else f"cannot be fetched: {error!r}"
        raise CodegenError(source, 1, why) from error
    finally:
        if watch is not None:
            watch.cancel()
        connection.close()
    if late.is_set():
        raise CodegenError(source, 1, f"no whole answer within {TIMEOUT_S:g} s")
    if len(data) > MAX_BYTES:
        raise CodegenError(source, 1, f"larger than {MAX_BYTES} bytes")
    return data
