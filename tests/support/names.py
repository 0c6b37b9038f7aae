"""What a host name means to a gateway under test: a file says so, and may say another thing the next moment."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.needs import ROOT

# Python runs this before the program: whoever asks for an address by a name that stands in the file gets its answer.
_AT_THE_START: Final = """
import json
import socket
from pathlib import Path

real = socket.getaddrinfo

def patched(host, *args, **kwargs):
    names = json.loads(Path(__file__).with_name("names.json").read_text())
    if host not in names:
        return real(host, *args, **kwargs)
    if names[host] is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return [found for address in names[host] for found in real(address, *args, **kwargs)]

socket.getaddrinfo = patched
"""


class Names:
    """`environ` is for the gateway's process."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "names.json"
        (folder / "sitecustomize.py").write_text(_AT_THE_START)
        self.environ = {"PYTHONPATH": f"{folder}:{ROOT}"}
        self._file.write_text("{}")

    def say(self, name: str, addresses: Sequence[str] | None) -> None:
        """From now on `name` has these addresses; None: there is no such name."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({name: addresses}))
        new.rename(self._file)
