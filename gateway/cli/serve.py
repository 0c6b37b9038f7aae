"""`ordergate serve`: the gateway itself."""

import click

from gateway.cli.program import Command, read_settings, settings_source


@click.command(cls=Command, example="ordergate serve --config /etc/ordergate.yaml")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.pass_context
def serve(ctx: click.Context, workers: int) -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    if workers > 1:
        raise click.UsageError("this version runs one worker")
    settings = read_settings()
    from gateway.wiring import instance  # its web framework takes longer to load than most commands take to run

    ctx.exit(instance.serve(settings, settings_source()))
