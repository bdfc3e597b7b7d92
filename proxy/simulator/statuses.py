"""The statuses of runs and steps: their names, and their numbers in protobuf."""

from __future__ import annotations

from proxy.simulator.stubs import workflows_pb2

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = "QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"
EVICTED = "EVICTED"  # a durable task that waits off its worker: not over
OVER = frozenset({COMPLETED, FAILED, CANCELLED})

STATUS = {
    QUEUED: workflows_pb2.QUEUED,
    RUNNING: workflows_pb2.RUNNING,
    COMPLETED: workflows_pb2.COMPLETED,
    FAILED: workflows_pb2.FAILED,
    CANCELLED: workflows_pb2.CANCELLED,
    EVICTED: workflows_pb2.EVICTED,
}
