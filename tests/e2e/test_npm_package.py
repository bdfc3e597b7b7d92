"""The npm package: what is packed, and whether its types are those of its code."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.chat_clients import need_packages
from tests.support.npm_package import PACKAGE, compiled, node_modules, packed
from tests.support.tools import ROOT, need

TYPES: Final = ROOT / "tests" / "e2e" / "js" / "types"

SERVER: Final = """
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { useRun } from "hatchet-stream-proxy/react";

function Run() {
  const { state, status, steps } = useRun("/streams/chat/1", { EventSource: null });
  return createElement("p", null, `${state} ${status} ${Object.keys(steps).length}`);
}
process.stdout.write(renderToString(createElement(Run)));
"""


def manifest() -> dict[str, Any]:
    return dict(json.loads((PACKAGE / "package.json").read_text()))


def test_the_package_has_no_dependencies_and_holds_each_entry_with_its_types(tmp_path: Path) -> None:
    with tarfile.open(packed(tmp_path)) as tar:
        files = {name.removeprefix("package/") for name in tar.getnames()}
    given = manifest()
    assert "dependencies" not in given
    assert set(given["peerDependencies"]) == set(given["peerDependenciesMeta"])
    assert all(meta["optional"] for meta in given["peerDependenciesMeta"].values())
    entries = [entry for entry in given["exports"].values() if isinstance(entry, dict)]
    wanted = {path.removeprefix("./") for entry in entries for path in entry.values()}
    assert files == wanted | {"package.json", "README.md", "LICENSE"}
    assert (PACKAGE / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_package_has_the_version_of_the_proxy() -> None:
    import tomllib  # noqa: PLC0415

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (manifest()["name"], manifest()["version"]) == (project["name"], project["version"])


def test_the_chat_transport_behaves_as_documented() -> None:
    need_packages()
    words = [need("node"), "--test", "transport.test.mjs", "chats.test.mjs"]
    ran = subprocess.run(words, cwd=TYPES.parent, capture_output=True, text=True, check=False, timeout=50)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.timeout(120)
def test_the_types_are_those_of_the_readme_and_of_the_code_and_a_server_renders_the_initial_state(
    tmp_path: Path,
) -> None:
    node_modules(tmp_path, "typescript", "react", "@types/react", "react-dom", "ai")
    shutil.copy(TYPES / "package.ts", tmp_path)
    assert compiled(tmp_path, "package.ts") == ""
    names = ["core", "react", "ai"]
    specifiers = {name: f"hatchet-stream-proxy/{name}" for name in names} | {"core": "hatchet-stream-proxy"}
    code = "".join(f"import * as {name} from '{specifiers[name]}';" for name in names)
    code += f"console.log(JSON.stringify([{', '.join(f'Object.keys({name}).sort()' for name in names)}]))"
    (tmp_path / "names.mjs").write_text(code)
    done = subprocess.run(
        [need("node"), tmp_path / "names.mjs"], capture_output=True, text=True, check=True, timeout=60
    )
    # package.ts holds each module's names against its declarations, in both directions
    assert json.loads(done.stdout) == [
        ["CONTROL_FRAMES", "RunFollower", "RunPicture", "StepPicture", "followRun", "readFrame"],
        ["useRun"],
        ["HatchetChatTransport", "frames"],
    ]
    (tmp_path / "server.mjs").write_text(SERVER)
    shown = subprocess.run(
        [need("node"), tmp_path / "server.mjs"], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout == "<p>connecting running 0</p>"
