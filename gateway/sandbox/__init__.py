"""A stand-in for OfferGrid on a real socket, used by `ordergate sandbox`, `ordergate demo` and the tests.

It shares no code with the rest of the gateway, so that the two can prove each other wrong. It keeps its limits,
checks its keys and answers as OfferGrid does, remembers every byte, and misbehaves on request (`faults.py` names
how).

Start reading at `server.py` (the whole), then `connection.py` (one connection) and `api.py` (what OfferGrid does).
"""

from gateway.sandbox.server import Sandbox, serve
from gateway.sandbox.thread import SandboxThread

__all__ = ["Sandbox", "SandboxThread", "serve"]
