"""``stream-proxy record``: records a run of an engine into a file for `engine --recording`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TextIO

import click
from pydantic import SecretStr

from config.model.files import HatchetConfig
from proxy.hatchet.endpoint import endpoint
from proxy.hatchet.errors import HatchetError
from proxy.simulator.recordings.client import Client
from proxy.simulator.recordings.recorder import Recorder, Refused


@click.command()
@click.argument("run_id", type=click.UUID)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: standard output]",
)
@click.option("--payloads", is_flag=True, help="Write payloads too, not only their lengths.")
def command(run_id: object, out: Path | None, payloads: bool) -> None:
    """Record a run from a Hatchet engine, for replays.

    The engine is the one that HATCHET_CLIENT_TOKEN and the other HATCHET_CLIENT_ variables name. Ends when
    the run is done.
    """
    token = os.environ.get("HATCHET_CLIENT_TOKEN", "")
    if not token:
        click.echo("HATCHET_CLIENT_TOKEN is not set: export an API token of the engine first", err=True)
        sys.exit(2)
    try:
        if out is None:
            asyncio.run(_record(token, str(run_id), sys.stdout, payloads))
        else:
            with out.open("w", encoding="utf-8") as file:
                asyncio.run(_record(token, str(run_id), file, payloads))
    except Refused as refused:
        click.echo(f"Hatchet answered {refused}", err=True)
        sys.exit(1)
    except HatchetError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"{out}: {error.strerror or error}", err=True)
        sys.exit(2)


async def _record(token: str, run_id: str, file: TextIO, payloads: bool) -> None:
    at = endpoint(HatchetConfig(token=SecretStr(token)), os.environ)

    def write(line: str) -> None:
        file.write(line + "\n")
        file.flush()

    async with Client(at) as client:
        await Recorder(client, run_id, write, payloads).record()
