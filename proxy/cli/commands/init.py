"""``stream-proxy init``: writes a first streams.yaml with the steps of a workflow."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from config.checks.checker import Form, check
from config.checks.step_names import KEEP_CASE
from config.model.files import HatchetConfig
from config.render.starter import starter, stream_name

TOKEN = "HATCHET_CLIENT_TOKEN"
PROBLEMS = 1


@click.command()
@click.argument("steps", nargs=-1, metavar="[STEP]…")
@click.option("--workflow", help="Ask Hatchet for this workflow's steps (HATCHET_CLIENT_TOKEN must be set).")
@click.option(
    "--tokens",
    "streaming",
    multiple=True,
    metavar="STEP",
    help="A step that sends chunks with put_stream; may be given several times.  [default: the last step]",
)
@click.option("--stream", help="The stream's name.  [default: the workflow's, else chat]")
@click.option("--metadata", metavar="KEY", help="Find runs by the application's own id: {metadata.KEY}.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, allow_dash=True),
    default=Path("streams.yaml"),
    show_default=True,
    help="The file to write; - prints the YAML.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def command(
    *,
    steps: tuple[str, ...],
    workflow: str | None,
    streaming: tuple[str, ...],
    stream: str | None,
    metadata: str | None,
    output: Path,
    force: bool,
) -> None:
    """Write a first streams.yaml for a workflow.

    \b
    stream-proxy init --workflow answer-question        asks Hatchet for its steps
    stream-proxy init start load_docs generate_answer   these steps; the last one sends chunks
    stream-proxy init start answer --tokens answer      these steps; `answer` sends chunks
    stream-proxy init                                   every step

    Exit status: 0 written, 1 Hatchet did not give the steps, 2 usage, or the file exists already.
    """
    if workflow is not None and steps:
        raise click.UsageError(
            "give either --workflow, which asks Hatchet for the steps, or the steps themselves"
        )
    shown = str(output) == "-"
    if not shown and output.exists() and not force:
        raise click.UsageError(f"{output} exists already; --force overwrites it")
    found = ask(workflow) if workflow is not None else steps
    known = tuple(dict.fromkeys(found))
    if known and (unknown := [step for step in streaming if step not in known]):
        raise click.UsageError(f"--tokens {unknown[0]}: the workflow's steps are {', '.join(known)}")
    text = starter(
        stream_name(stream or workflow or "chat"), known, tuple(dict.fromkeys(streaming)), metadata
    )
    found_problems = check(str(output), text.encode(), Form.SINGLE, {TOKEN: "unset"}, secrets=False).problems
    # Step names from Hatchet are right, upper case included, so the warning of `check` about them is dropped.
    doubtful = "step-name" if workflow is not None else None
    said = {f"{each.message} ({each.hint})": each for each in found_problems if each.code != doubtful}
    wrong = [message for message, each in said.items() if KEEP_CASE not in each.hint]
    if wrong:  # a step's name or a metadata key that the file cannot have
        raise click.UsageError("\n".join(wrong))
    for remark in said:  # such a step there may be
        click.echo(f"init: {remark}", err=True)
    if shown:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"Wrote {output}. Next: stream-proxy check --strict {output}")


def ask(workflow: str) -> tuple[str, ...]:
    """The steps of a workflow, from Hatchet's REST history."""
    token = os.environ.get(TOKEN, "")
    if not token:
        raise click.UsageError(
            f"{TOKEN} is not set: create an API token in the Hatchet dashboard, or name the steps"
        )
    from proxy.hatchet.errors import HatchetError  # noqa: PLC0415

    try:
        found = asyncio.run(asked(token, workflow))
    except HatchetError as error:
        click.echo(f"init: {error}; name the steps instead: stream-proxy init STEP…", err=True)
        sys.exit(PROBLEMS)
    if found is None:
        click.echo(f"init: Hatchet knows no workflow {workflow!r} for this token", err=True)
        sys.exit(PROBLEMS)
    return found


async def asked(token: str, workflow: str) -> tuple[str, ...] | None:
    """Ask Hatchet once; None if it does not know the workflow. Raises HatchetError."""
    from proxy.hatchet.client import HatchetClient  # noqa: PLC0415 - loads gRPC

    client = HatchetClient(HatchetConfig.model_validate({"token": token}), os.environ)
    try:
        return await client.workflow_steps(workflow)
    finally:
        await client.close()
