"""Hatchet's generated protobuf modules, imported without running the SDK's package.

``import hatchet_sdk`` imports the whole SDK: 1.6 s and 60 MB at each start. Its protobuf modules need none of
it. So an empty module takes the package's place in `sys.modules` while they are imported, and is removed
afterwards: a later ``import hatchet_sdk`` in the same process works as usual. If the SDK is already imported,
or its layout has changed, the modules are imported the normal way.

`tests/unit/hatchet/test_protobuf.py` tests all of this, and that the installed SDK needs no normal import.
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
EVENTS: Final = "hatchet_sdk.contracts.events_pb2"


def import_modules(*names: str) -> tuple[list[ModuleType], bool]:
    """Import modules of the SDK; also return whether its package was skipped. Raises ImportError."""
    if PACKAGE not in sys.modules:
        try:
            return _import_without_package(names), True
        except Exception:  # the layout has changed: the normal import decides
            pass
    return [importlib.import_module(name) for name in names], False


def _import_without_package(names: tuple[str, ...]) -> list[ModuleType]:
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
    """The HTTP/2 path of a gRPC method, from the service's descriptor."""
    described = module.DESCRIPTOR.services_by_name[service].methods_by_name[method]
    return f"/{described.containing_service.full_name}/{described.name}"


if TYPE_CHECKING:
    from hatchet_sdk.contracts import dispatcher_pb2, events_pb2
    from hatchet_sdk.contracts.v1 import workflows_pb2

    SDK_PACKAGE_SKIPPED: bool
else:
    (dispatcher_pb2, workflows_pb2, events_pb2), SDK_PACKAGE_SKIPPED = import_modules(
        DISPATCHER, WORKFLOWS, EVENTS
    )

SUBSCRIBE: Final = method_path(dispatcher_pb2, "Dispatcher", "SubscribeToWorkflowEvents")
RUN_DETAILS: Final = method_path(workflows_pb2, "AdminService", "GetRunDetails")
PUT_STREAM_EVENT: Final = method_path(events_pb2, "EventsService", "PutStreamEvent")

__all__ = [
    "PUT_STREAM_EVENT",
    "RUN_DETAILS",
    "SDK_PACKAGE_SKIPPED",
    "SUBSCRIBE",
    "dispatcher_pb2",
    "events_pb2",
    "import_modules",
    "method_path",
    "workflows_pb2",
]
