"""The command ``stream-proxy``: lists the commands and imports only the one that is called.

`check` and `explain` start fast because nothing here imports gRPC, Starlette or uvicorn. A command is a click
command named `command` in ``proxy/cli/commands/<name>.py``.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from types import ModuleType
from typing import Final

import click

from proxy import __version__

COMMANDS: Final = {
    "serve": "Serve streams to browsers.",
    "check": "Find every mistake in the YAML before it is live.",
    "test": "Run the tests that stand beside the rules.",
    "explain": "Show the result of each rule for an event.",
    "watch": "Watch a live run through a stream, in the terminal.",
    "show": "Print the effective configuration, with every default.",
    "types": "Write TypeScript types of what the streams send.",
    "schema": "Print the JSON Schema for editors.",
    "init": "Write a first streams.yaml for a workflow.",
    "demo": "Run an engine, the proxy and a page on this machine.",
    "engine": "Run a small embedded Hatchet engine, for demos and tests.",
    "record": "Record a run from a Hatchet engine, for replays.",
}
COLLECT_AFTER: Final = 50_000
"""New objects before a garbage collection during the start. Imports and the YAML make hundreds of thousands
of objects that stay; collecting after each 700, the default, takes a fifth of the start."""
ENDS_AT_ONCE: Final = ("check", "explain")
"""Commands that have nothing to close: they run in editors and hooks, and wait for nobody at their end."""


class Commands(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"proxy.cli.commands.{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    if ctx.params.get("verbose"):
        from proxy.cli import about  # noqa: PLC0415 - looks up twenty distributions: only when asked

        click.echo("\n".join(about.lines()))
    else:
        click.echo(f"stream-proxy, version {__version__}")
    ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--verbose", is_flag=True, is_eager=True, help="With --version: print the facts that a bug report needs."
)
@click.option("--version", is_flag=True, expose_value=False, callback=_show_version, help="Show the version.")
def main(verbose: bool) -> None:
    """Server-Sent Events for Hatchet workflow runs, shaped by YAML.

    \b
    First steps:
      stream-proxy demo                 try it, with an embedded engine
      stream-proxy check streams.yaml   find every mistake before it is live
      stream-proxy serve --config streams.yaml
    """


def open_standard_streams() -> None:
    """Open standard input, output and error on the null device where they are closed (``2>&-``).

    The next file or socket would get their numbers: it would be written the log, and the event loop's
    library aborts the process when it has to close descriptor 2.
    """
    for descriptor, mode, name in ((0, "r", "stdin"), (1, "w", "stdout"), (2, "w", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def skip_pydantic_plugins() -> None:
    """Spare pydantic the search for its plugins, because there are none.

    It would look into every installed distribution, and import `importlib.metadata` for that: a seventh of
    `check`. The variable stops the search, and the empty module in the place of pydantic's own stops the
    import. If a later pydantic has the search elsewhere, only the time is lost.
    """
    if os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__") == "__all__":
        loader = ModuleType("pydantic.plugin._loader")
        loader.__dict__["get_plugins"] = tuple
        sys.modules.setdefault(loader.__name__, loader)


def prepare() -> None:
    """Prepare the process for a fast start."""
    open_standard_streams()
    skip_pydantic_plugins()
    gc.set_threshold(COLLECT_AFTER)


def start() -> None:
    """The console script: prepare the process, run the command, and end."""
    prepare()
    try:
        main()
    except SystemExit as end:
        if sys.argv[1:2] and sys.argv[1] in ENDS_AT_ONCE:
            end_at_once(end.code)
        raise


def end_at_once(status: object) -> None:
    """End the process without taking the interpreter apart, which is a tenth of `check`.

    It returns where Python's own way has something to say: output that cannot be written, a status that is
    a text.
    """
    if not isinstance(status, int):
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(status & 0xFF)
