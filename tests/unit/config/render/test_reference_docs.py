"""docs/configuration.md is what the declarations say, and its YAML passes `check`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import pytest
from jmespath.functions import Functions

from config.checks.checker import Form, check
from config.expressions.functions import FUNCTIONS
from config.render.reference_docs import markdown
from tests.support.secrets import HATCHET_TOKEN

PAGE: Final = Path(__file__).resolve().parents[4] / "docs" / "configuration.md"
ENV: Final = dict.fromkeys(("HATCHET_CLIENT_TOKEN", "PAYMENTS_HATCHET_TOKEN"), HATCHET_TOKEN)
BLOCKS: Final = re.findall(r"```yaml\n(.*?)```", markdown(), re.DOTALL)


def test_the_page_is_current() -> None:
    if os.environ.get("STREAM_PROXY_WRITE"):
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(markdown(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == markdown(), (
        "STREAM_PROXY_WRITE=1 pytest tests/unit/config/render/test_reference_docs.py"
    )


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_of_the_page_passes_check(number: int) -> None:
    text = BLOCKS[number]
    form = Form.TEAM if text.startswith("# teams/") else None
    assert check("page.yaml", text.encode(), form, ENV).problems == ()


def test_every_function_beside_those_of_jmespath_is_in_the_table() -> None:
    table = markdown().partition("### Functions beside")[2].partition("\n\n## ")[0]
    documented = set(re.findall(r"`([a-z]+)\(", table))
    assert documented == FUNCTIONS.keys() - set(Functions.FUNCTION_TABLE)
