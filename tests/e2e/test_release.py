"""What a release publishes: versions that agree, workflows, a documentation site without warnings."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.tools import ROOT, need

WORKFLOWS: Final = sorted((ROOT / ".github/workflows").glob("*.yml"))
PYTHONS: Final = ["3.11", "3.12", "3.13", "3.14"]


@pytest.fixture(scope="module")
def release() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts/release"))


def workflow(name: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    return loaded


def uses(job: dict[str, Any]) -> str:
    return " ".join(step.get("uses", "") for step in job["steps"])


# -- versions --


def test_every_file_has_the_same_version(release: dict[str, Any]) -> None:
    assert len({*release["versions"](ROOT).values()}) == 1
    assert release["version"](ROOT) == release["versions"](ROOT)["pyproject.toml"]


def test_a_file_with_another_version_is_named(release: dict[str, Any], tmp_path: Path) -> None:
    for name in release["versions"](ROOT):
        path = name.split(" ")[0]
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    package = tmp_path / "clients/js/package.json"
    package.write_text(package.read_text().replace('"version": "', '"version": "9.'))
    with pytest.raises(SystemExit, match=r"clients/js/package.json: 9\."):
        release["version"](tmp_path)


def test_the_notes_are_the_section_of_one_version(release: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## Unreleased\n\n- b\n\n## 1.0.0\n\n- a\n")
    assert release["notes"](tmp_path, "Unreleased") == "- b"
    assert release["notes"](tmp_path, "1.0.0") == "- a"
    assert release["notes"](tmp_path, "2.0.0") == ""


# -- the image --


def test_what_is_left_out_of_the_image_is_said_in_words(
    release: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = release["image"]
    own: dict[str, Any] = image.__globals__
    both = [*own["PLATFORMS"]]
    built: list[tuple[str, ...]] = []
    left_out: list[str] = []
    monkeypatch.setitem(own, "left_out", left_out)
    monkeypatch.setitem(own, "run", lambda *command: built.append(command))
    monkeypatch.setitem(own, "locked_for", lambda name: None)
    monkeypatch.setitem(own, "docker_runs", lambda: False)
    monkeypatch.setitem(own, "tool", lambda name: None)
    image("1.0.0", None, both)
    assert left_out == ["the image: no docker with buildx answers, and buildah, podman, runc missing"]
    left_out.clear()
    monkeypatch.setitem(own, "docker_runs", lambda: True)
    monkeypatch.setitem(own, "runs_here", lambda name: name == "linux/amd64")
    image("1.0.0", "base:1", both)
    ((*command,),) = built
    assert {"--platform=linux/amd64", "--build-arg=VERSION=1.0.0", "--build-arg=BASE=base:1"} <= {*command}
    assert left_out[0].startswith("the image for linux/arm64: this machine has no emulator for it")
    left_out.clear()
    image("1.0.0", None, ["linux/amd64"])
    assert left_out[0] == "the image for linux/arm64: --platform did not name it"


# -- workflows --


@pytest.mark.chart
def test_actionlint_finds_nothing_in_the_workflows() -> None:
    done = subprocess.run(
        [need("actionlint"), *map(str, WORKFLOWS)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_run_on_the_pythons_that_the_package_names() -> None:
    matrix = workflow("test")["jobs"]["test"]["strategy"]["matrix"]["python"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    tried = re.search(r"VERSIONS:-([\d. ]+)", (ROOT / "scripts/test-pythons").read_text())
    assert tried is not None
    assert matrix == named == tried[1].split() == PYTHONS


def test_a_release_is_tested_attested_and_published_without_tokens() -> None:
    jobs = workflow("release")["jobs"]
    assert "attest-build-provenance" in uses(jobs["build"])
    assert "attest-sbom" in uses(jobs["build"])
    assert any("scripts/release --dry-run" in step.get("run", "") for step in jobs["build"]["steps"])
    for name in ("pypi", "npm", "image"):
        assert jobs[name]["permissions"]["id-token"] == "write", name
        assert {"test", "build"} <= {*jobs[name]["needs"]}, name
    assert "gh-action-pypi-publish" in uses(jobs["pypi"])
    (image,) = [step for step in jobs["image"]["steps"] if "build-push-action" in step.get("uses", "")]
    assert image["with"]["platforms"] == "linux/amd64,linux/arm64"
    assert image["with"]["sbom"] is True
    secrets = re.findall(r"secrets\.(\w+)", (ROOT / ".github/workflows/release.yml").read_text())
    assert {*secrets} == {"GITHUB_TOKEN"}, "trusted publishing needs no token of ours"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_job_may_write_more_than_it_says_or_run_for_hours(path: Path) -> None:
    loaded = yaml.safe_load(path.read_text())
    assert loaded["permissions"] == {"contents": "read"}
    for name, job in loaded["jobs"].items():
        assert "uses" in job or job["timeout-minutes"] <= 60, name


# -- the documentation site --


def test_the_documentation_site_is_built_without_warnings_and_has_search_and_every_page(
    tmp_path: Path,
) -> None:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""
    index = json.loads((tmp_path / "site/search/search_index.json").read_text())
    found = {entry["location"].split("#")[0] for entry in index["docs"]}
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    for page in pages:
        location = re.sub(r"(README)?\.md$", "", page)
        assert location.rstrip("/") + "/" in found, page
    assert {"", "npm/", "changelog/", "security/"} <= found
    text = (tmp_path / "site/helm/index.html").read_text()
    assert 'href="../front-proxies/"' in text, "a link to a page leads to the page"
    assert "/blob/main/deploy/helm/values.yaml" in text, "a link to another file leads to the repository"
