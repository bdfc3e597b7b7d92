"""Names the rules of a file that no test beside them reaches, for ``stream-proxy check --strict``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from config.checks.checker import Checked, ordered
from config.problems import WARNING, ConfigError, Problem, errors
from proxy.cli.commands.config_files import folder_of, teams_at
from proxy.rules.test_runner import run_tests, unreached
from proxy.teams.recordings import RecordingFiles

HINT = "write a test whose event it decides, or remove the rule"


def with_unreached(checked: Checked, env: Mapping[str, str]) -> Checked:
    """`checked` with a warning for each rule that no test reaches; as it is where the file has no tests."""
    source = checked.source
    path = Path(source.file)
    has_tests = isinstance(source.data, dict) and bool(source.data.get("tests"))
    if not has_tests or errors(checked.problems) or not path.is_file():
        return checked
    try:
        [config], _ = teams_at(path, env)
    except ConfigError:
        return checked
    missed = set(unreached(config, run_tests(config, RecordingFiles(folder_of(path)))))
    warnings = [
        Problem(
            source.file,
            *source.place(source.at(("streams", name, "rules", number))),
            WARNING,
            "untested",
            f"no test reaches the rule `{rule.name}` of stream `{name}`",
            HINT,
        )
        for name, stream in config.streams.items()
        for number, rule in enumerate(stream.rules)
        if (name, rule.name) in missed
    ]
    return replace(checked, problems=ordered([*checked.problems, *warnings]))
