"""The program: `ordergate GROUP VERB`."""

import click

from gateway import __version__
from gateway.cli.apply import apply
from gateway.cli.audit import audit
from gateway.cli.config import config
from gateway.cli.db import db
from gateway.cli.demo import demo
from gateway.cli.doctor import doctor
from gateway.cli.key import key
from gateway.cli.orders import orders
from gateway.cli.process import keep_memory_to_itself, open_missing_streams
from gateway.cli.program import Program
from gateway.cli.sandbox import sandbox
from gateway.cli.secrets import secrets
from gateway.cli.serve import serve
from gateway.cli.team import team
from gateway.cli.tenant import tenant
from gateway.cli.token import token

_EPILOG = """\b
Settings: --config FILE, else $ORDERGATE_CONFIG, else config/ordergate.yaml, else defaults;
then variables ORDERGATE_<SECTION>__<FIELD> win, as ORDERGATE_TENANT_API__PORT does.

\b
Exit: 0 done, 1 failed, 2 usage, 3 bad settings, 4 no such thing or refused, 5 not reachable.

\b
Completion: eval "$(_ORDERGATE_COMPLETE=bash_source ordergate)" in ~/.bashrc; zsh_source for zsh.
"""


@click.group(cls=Program, epilog=_EPILOG)
@click.version_option(__version__, prog_name="ordergate")
def ordergate() -> None:
    """The gateway between your services and OfferGrid: no order twice, none lost."""


for _command in (team, key, tenant, token, apply, orders, audit, secrets, db, config, doctor, serve, sandbox, demo):
    ordergate.add_command(_command)


def main() -> None:
    """The entry point. Ends the process."""
    keep_memory_to_itself()
    open_missing_streams()
    ordergate(prog_name="ordergate")


if __name__ == "__main__":
    main()
