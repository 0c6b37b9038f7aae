"""The program, open to who looks into it: as it is, it lets nobody but root read its `/proc` or attach to it."""

from typing import Final

from gateway.cli import main as program

LOOKED_AT: Final = ("tests.support.looked_at", "serve")

if __name__ == "__main__":
    vars(program)["keep_memory_to_itself"] = lambda: None
    program.main()
