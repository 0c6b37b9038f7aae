"""The program: `ordergate GROUP VERB`."""

import sys

import click

from gateway import __version__
from gateway.cli.program import Program
from gateway.cli.serve import serve


@click.group(cls=Program)
@click.version_option(__version__, prog_name="ordergate")
def ordergate() -> None:
    """The gateway between your services and OfferGrid: no order twice, none lost."""


ordergate.add_command(serve)


def main() -> None:
    """The entry point. Ends the process."""
    ordergate(prog_name="ordergate")


if __name__ == "__main__":
    sys.exit(main())
