"""``stream-proxy schema``: prints the JSON Schema for editors."""

from __future__ import annotations

import click

from config.render.json_schema import FORMS, text


@click.command()
@click.option(
    "--form",
    type=click.Choice(list(FORMS)),
    default="streams",
    show_default=True,
    help="streams: one team in one file; proxy: proxy.yaml; team: teams/NAME.yaml.",
)
def command(form: str) -> None:
    """Print the JSON Schema for editors.

    \b
    stream-proxy schema > streams.schema.json

    With this first line in the YAML, editors with a YAML language server complete and check it:

    \b
    # yaml-language-server: $schema=./streams.schema.json
    """
    click.echo(text(form), nl=False)
