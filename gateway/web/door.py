"""The accepting side of a listener: as many connections as there is room for, and a clear answer to the others.

It accepts by itself. Without free file descriptors `asyncio`'s own loop logs and plans thousands of further tries
at once, and nobody who connects hears anything; here a descriptor is kept in reserve, with which each of them is
told that there is no room.
"""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway.errors import Overloaded
from gateway.web.edge import Edge
from gateway.web.watch import Watch

RETRY_AFTER_S: Final = 1
IDLE_ENOUGH_S: Final = 1.0
"""A connection that is younger may have its request on the way: then a new one is refused, and that one kept."""

_AT_ONCE: Final = 64
"""Connections accepted before others get their turn."""
_PAUSE_S: Final = 0.1
_TAKEN_READS: Final = 8
_SPARE_DESCRIPTORS: Final = 16
"""For the ledger, which opens files while it runs, for listings, and for log files."""
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Door:
    """One listening socket. Has the methods that uvicorn expects of what it listens with."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        make: Callable[[], asyncio.Protocol],
        open_now: set[asyncio.Protocol],
        most: int,
        watch: Watch,
        edge: Edge,
    ) -> None:
        self._listening = listening
        self._make = make
        self._open_now = open_now
        self._most = most
        self._watch = watch
        self._edge = edge
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.closed = False
        listening.setblocking(False)
        self._timers: dict[str, asyncio.Handle] = {
            "accept": self._loop.call_soon(self._open),
            "sweep": self._loop.call_soon(self._sweep),
        }

    def close(self) -> None:
        """Accepts nobody any more. Connections that are open go on, under watch."""
        self.closed = True
        self._timers["accept"].cancel()
        self._loop.remove_reader(self._listening)
        self._let_go()

    async def wait_closed(self) -> None:
        """Returns when those accepted have been handed over; ends the watch."""
        await asyncio.gather(*self._arriving, return_exceptions=True)
        self._timers["sweep"].cancel()

    def _open(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _sweep(self) -> None:
        self._watch.sweep()
        self._timers["sweep"] = self._loop.call_later(self._watch.every_s, self._sweep)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                arrived, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as fault:
                if fault.errno not in _NO_DESCRIPTORS or not self._refuse_one():
                    self._pause()
                    return
                continue
            if len(self._open_now) < self._most or self._make_room():
                self._hand_over(arrived)
            else:
                self._refuse(arrived)

    def _hand_over(self, arrived: socket.socket) -> None:
        arrived.setblocking(False)
        handing = self._loop.create_task(self._connect(self._make(), arrived))
        self._arriving.add(handing)
        handing.add_done_callback(self._arriving.discard)

    async def _connect(self, connection: asyncio.Protocol, arrived: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, arrived)
        except OSError:  # gone again
            self._open_now.discard(connection)
            arrived.close()

    def _make_room(self) -> bool:
        """Closes the idlest connection, if there is one that nobody is likely to use right now.

        Better than refusing: whoever holds connections open without using them must not keep others out.
        """
        return self._watch.close_idlest(IDLE_ENOUGH_S)

    def _refuse_one(self) -> bool:
        """Without a free descriptor: gives the spare one up for as long as it takes to say so. False: nobody there,
        or the spare one is gone."""
        self._make_room()
        if self._spare is None:
            self._take_spare()
            return False
        self._let_go()
        try:
            arrived, _ = self._listening.accept()
        except OSError:
            return False
        else:
            self._refuse(arrived)
            return True
        finally:
            self._take_spare()

    def _refuse(self, arrived: socket.socket) -> None:
        """The request is not waited for: nothing of it is read, so nothing of it is done."""
        problem = Overloaded("All connections are in use.", headers=(("retry-after", str(RETRY_AFTER_S)),))
        with arrived:
            arrived.setblocking(False)
            try:
                arrived.send(self._edge.refusal(problem))
                arrived.shutdown(socket.SHUT_WR)
                # What has come already is taken: bytes left unread would make the end a reset, and a reset can
                # overtake the answer.
                for _ in range(_TAKEN_READS):
                    if not arrived.recv(65_536):
                        return
            except OSError:  # nobody there any more, or all of it taken
                return

    def _pause(self) -> None:
        """A socket that cannot be accepted from stays ready: without a pause nothing else would get its turn."""
        self._loop.remove_reader(self._listening)
        self._timers["accept"] = self._loop.call_later(_PAUSE_S, self._open)

    def _let_go(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _take_spare(self) -> None:
        try:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._spare = None


def room_for(wanted: int, beside: int) -> int:
    """How many connections there can be, at most `wanted`, if `beside` descriptors are used elsewhere meanwhile.

    Raises the process's soft limit as far as that takes. Where it cannot, a third of what is left is for tenants'
    connections, so that each order that is accepted can also be sent, and the last third is for operators.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = soft - len(list(Path("/dev/fd").iterdir())) - _SPARE_DESCRIPTORS
    missing = wanted + beside - left
    if soft != resource.RLIM_INFINITY and missing > 0:
        more = missing if hard == resource.RLIM_INFINITY else min(missing, hard - soft)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft + more, hard))
        left, missing = left + more, missing - more
    if soft == resource.RLIM_INFINITY or missing <= 0:
        return wanted
    return max(1, min(wanted, max(left - beside, left // 3)))
