"""Hatchet's generated messages, reached past the SDK's heavy package. Each test has its own process."""

from __future__ import annotations

import subprocess
import sys

PRELUDE = "import sys, types\nfrom pathlib import Path\n"


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_is_passed_by_and_leaves_no_trace() -> None:
    assert run(
        "from proxy.hatchet import protobuf\n"
        "print(protobuf.SDK_PACKAGE_SKIPPED, "
        "[name for name in sys.modules if name.split('.')[0] in ('hatchet_sdk', 'grpc')])"
    ) == ("True []")


def test_a_later_plain_import_of_the_sdk_works_and_has_the_same_messages() -> None:
    assert run(
        "from proxy.hatchet import protobuf\n"
        "import hatchet_sdk\n"
        "from hatchet_sdk.contracts import dispatcher_pb2, dispatcher_pb2_grpc\n"
        "from hatchet_sdk.contracts.v1 import workflows_pb2\n"
        "assert hatchet_sdk.Hatchet and hatchet_sdk.contracts.dispatcher_pb2 is dispatcher_pb2\n"
        "assert dispatcher_pb2.WorkflowEvent is protobuf.dispatcher_pb2.WorkflowEvent\n"
        "assert workflows_pb2.GetRunDetailsResponse is protobuf.workflows_pb2.GetRunDetailsResponse\n"
        "print('fine')"
    ) == ("fine")


def test_where_the_sdk_is_there_already_it_is_used() -> None:
    assert run(
        "import hatchet_sdk\nfrom proxy.hatchet import protobuf\n"
        "print(protobuf.SDK_PACKAGE_SKIPPED, protobuf.SUBSCRIBE)"
    ) == ("False /Dispatcher/SubscribeToWorkflowEvents")


def test_a_changed_layout_falls_back_to_the_plain_import() -> None:
    """A package that makes its messages only when it is imported as a whole."""
    assert run(
        "import importlib.abc, importlib.machinery\n"
        "real = {}\n"
        "class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'hatchet_sdk':\n"
        "            return importlib.machinery.ModuleSpec(name, self, is_package=True)\n"
        "    def create_module(self, spec):\n"
        "        return None\n"
        "    def exec_module(self, module):\n"
        "        module.__path__ = []\n"
        "        for part in ('contracts', 'contracts.v1'):\n"
        "            sys.modules[f'hatchet_sdk.{part}'] = types.ModuleType(f'hatchet_sdk.{part}')\n"
        "        sys.modules['hatchet_sdk.contracts.dispatcher_pb2'] = real['dispatcher']\n"
        "        sys.modules['hatchet_sdk.contracts.v1.workflows_pb2'] = real['workflows']\n"
        "from proxy.hatchet.protobuf import import_modules, DISPATCHER, WORKFLOWS\n"
        "(real['dispatcher'], real['workflows']), _ = import_modules(DISPATCHER, WORKFLOWS)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "modules, skipped = import_modules(DISPATCHER, WORKFLOWS)\n"
        "assert modules == [real['dispatcher'], real['workflows']]\n"
        "print(skipped)"
    ) == ("False")


def test_the_paths_are_those_of_the_generated_client() -> None:
    assert run(
        "from proxy.hatchet.protobuf import SUBSCRIBE, RUN_DETAILS\n"
        "from hatchet_sdk.contracts import dispatcher_pb2_grpc\n"
        "from hatchet_sdk.contracts.v1 import workflows_pb2_grpc\n"
        "class Channel:\n"
        "    def __getattr__(self, kind):\n"
        "        return lambda path, *a, **k: path\n"
        "assert dispatcher_pb2_grpc.DispatcherStub(Channel()).SubscribeToWorkflowEvents == SUBSCRIBE\n"
        "assert workflows_pb2_grpc.AdminServiceStub(Channel()).GetRunDetails == RUN_DETAILS\n"
        "print('fine')"
    ) == ("fine")
