"""What every command shares: its options, its example, and how each error becomes a line and an exit status."""

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.errors import OperatorError, OrdergateError, Problem, SealBroken, StorageUnreachable
from gateway.settings import DEFAULT_FILE, Settings, load_settings

if TYPE_CHECKING:
    from gateway.broker.administration import Administration
    from gateway.wiring.reloading import Source

FAILED: Final = 1
INTERRUPTED: Final = 130
"""What a shell says of a command that Ctrl-C ended."""

_META: Final = "ordergate."
"""Before a common option's name in click's `meta`, which a command shares with the groups above it."""


class Command(click.Command):
    """A command with an example and the common options."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.params.extend(_common_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        with formatter.section("Example"):
            formatter.write(f"{' ' * formatter.current_indent}{self.example}\n")


class Group(click.Group):
    """Commands that belong together. The common options may stand here too; nearer the verb wins."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options())


class Program(Group):
    """The root: the one boundary at which errors become words and exit statuses."""

    group_class = Group

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any("\udc80" <= sign <= "\udcff" for arg in args for sign in arg):
            raise click.UsageError("the arguments are not UTF-8")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as fault:
            if asked(ctx, "traceback"):
                raise
            ctx.exit(_told(fault))
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def asked(ctx: click.Context, name: str) -> Any:
    """A common option's value, wherever on the command line it stood; None where it did not."""
    return ctx.meta.get(_META + name)


def config_file() -> str | None:
    """The settings file that was named with `--config`."""
    found: str | None = asked(click.get_current_context(), "config")
    return found


def read_settings() -> Settings:
    """The settings that this command was told to use. Raises BadSettings."""
    return load_settings(config_file(), os.environ)


def settings_source() -> "Source":
    """Where this command's settings come from, for reading them again, outside of the command too."""
    from gateway.wiring.reloading import Source  # it loads slowly, and `--help` needs none

    named = config_file()
    file = Path(named or os.environ.get("ORDERGATE_CONFIG") or DEFAULT_FILE)
    return Source(file=file, load=lambda: load_settings(named, os.environ))


def administration() -> AbstractContextManager["Administration"]:
    """Administration on the storage that the settings name, whether or not a gateway runs on it."""
    settings = read_settings()
    from gateway.wiring import open_administration  # what stores and seals loads slowly, and `--help` needs none

    return open_administration(settings)


def _told(fault: Exception) -> int:
    """Says on standard error what is wrong, and returns the exit status."""
    if isinstance(fault, OSError):
        # What could not be written is still buffered, and must not fail again at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(fault, BrokenPipeError):
        return 0  # whoever reads the output has seen enough
    if isinstance(fault, OSError):
        click.echo(f"the system says: {fault}", err=True)
        return FAILED
    if isinstance(fault, OperatorError):
        click.echo(str(fault), err=True)
        return fault.exit_code
    if isinstance(fault, OrdergateError) and not isinstance(fault, Problem):
        look = "; `ordergate db check` finds every one" if isinstance(fault, SealBroken) else ""
        click.echo(f"the ledger: {fault}{look}", err=True)
        return StorageUnreachable.exit_code
    what = f"a defect of Ordergate: {type(fault).__name__}; the same command with --traceback says more"
    click.echo(what, err=True)
    return FAILED


def _common_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--config"],
            metavar="FILE",
            expose_value=False,
            callback=_remember,
            help="Read settings from FILE.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_remember,
            help="One JSON value on standard output, nothing else there.",
        ),
        click.Option(["--traceback"], is_flag=True, hidden=True, expose_value=False, callback=_remember),
    ]


def _remember(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    if value and option.name is not None:
        ctx.meta[_META + option.name] = value
