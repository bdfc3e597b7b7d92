"""Hatchet's generated messages, reached past the SDK's package: the one place that knows how.

``import hatchet_sdk`` runs its ``__init__``, which imports the whole SDK: 1.6 s and 60 MB, felt by every
sidecar at every start. Its protobuf modules need none of that. So the package is given an empty stand-in
while they are imported, and every trace of it is taken away again: a later ``import hatchet_sdk`` in
the same process finds nothing of ours and works as ever. Where the SDK is there already, or its layout has
changed, the plain import is the way.

`tests/unit/hatchet/test_protobuf.py` holds all of this, and that no plain import was needed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

PACKAGE: Final = "hatchet_sdk"
DISPATCHER: Final = "hatchet_sdk.contracts.dispatcher_pb2"
WORKFLOWS: Final = "hatchet_sdk.contracts.v1.workflows_pb2"


def reach(*names: str) -> tuple[list[ModuleType], bool]:
    """Import modules of the SDK; also whether its package could be passed by. Raises ImportError."""
    if PACKAGE not in sys.modules:
        try:
            return _past_the_package(names), True
        except Exception:  # whatever a changed layout makes of it, the plain import is the judge
            pass
    return [importlib.import_module(name) for name in names], False


def _past_the_package(names: tuple[str, ...]) -> list[ModuleType]:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"{PACKAGE} is not installed as a package", name=PACKAGE)
    stand_in = ModuleType(PACKAGE)
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules[PACKAGE] = stand_in
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
            del sys.modules[name]


def method_path(module: Any, service: str, method: str) -> str:
    """The HTTP/2 path of a gRPC method, as its descriptor tells it."""
    described = module.DESCRIPTOR.services_by_name[service].methods_by_name[method]
    return f"/{described.containing_service.full_name}/{described.name}"


if TYPE_CHECKING:
    from hatchet_sdk.contracts import dispatcher_pb2
    from hatchet_sdk.contracts.v1 import workflows_pb2

    LEAN: bool
else:
    (dispatcher_pb2, workflows_pb2), LEAN = reach(DISPATCHER, WORKFLOWS)

SUBSCRIBE: Final = method_path(dispatcher_pb2, "Dispatcher", "SubscribeToWorkflowEvents")
RUN_DETAILS: Final = method_path(workflows_pb2, "AdminService", "GetRunDetails")

__all__ = ["LEAN", "RUN_DETAILS", "SUBSCRIBE", "dispatcher_pb2", "method_path", "reach", "workflows_pb2"]
