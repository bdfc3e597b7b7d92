"""Gate: which tokens are accepted, how many calls, and whether the engine answers at all."""

from __future__ import annotations

import asyncio

from proxy.simulator.scheduler import Scheduler
from proxy.simulator.state.tenant import Tenant

RATE = 1000.0  # calls per second and token, and as many at once
DISPATCHER = 10.0  # times as many
LIMITED = {
    "Dispatcher": "dispatcher rate limit exceeded",
    "EventsService": "ingest rate limit exceeded",
    "WorkflowService": "admin rate limit exceeded",
    "AdminService": "admin rate limit exceeded",
}


class Bucket:
    """A token bucket: `rate` calls a second, and as many at once."""

    def __init__(self, scheduler: Scheduler, rate: float) -> None:
        self._scheduler, self._rate = scheduler, rate
        self._left, self._at = rate, scheduler.now()

    def take(self) -> bool:
        """Take one call's token; whether there was one."""
        now = self._scheduler.now()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Gate:
    """The engine's tokens, rate limits and silence."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._tenants: dict[str, Tenant] = {}
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._answering = asyncio.Event()
        self._answering.set()
        self.refusing = False
        self.rate = RATE
        self.calls: dict[str, int] = {}

    def admit(self, token: str, tenant: Tenant) -> None:
        """Accept `token` for `tenant`."""
        self._tenants[token] = tenant

    def withdraw(self, token: str) -> Tenant:
        """Accept `token` no more; returns its tenant. Raises KeyError."""
        return self._tenants.pop(token)

    def tenant(self, authorization: str | None) -> Tenant | None:
        """The tenant of an authorization header's token; None where it is refused."""
        kind, _, token = (authorization or "").partition(" ")
        return None if self.refusing or kind.lower() != "bearer" else self._tenants.get(token.strip())

    def limit(self, rate: float) -> None:
        """Allow so many calls per second and token."""
        self.rate = rate
        self._buckets.clear()

    def passes(self, tenant: Tenant, service: str) -> bool:
        """Whether a call of a service is within its limit."""
        key = (tenant.id, service)
        if key not in self._buckets:
            self._buckets[key] = Bucket(
                self._scheduler, self.rate * (DISPATCHER if service == "Dispatcher" else 1.0)
            )
        return self._buckets[key].take()

    def mute(self) -> None:
        """Let every call wait until `unmute`."""
        self._answering.clear()

    def unmute(self) -> None:
        self._answering.set()

    async def wait_until_answering(self) -> None:
        """Wait while the engine is mute."""
        await self._answering.wait()

    def count(self, method: str) -> None:
        """Count a call of a method, for tests of what a client asks."""
        self.calls[method] = self.calls.get(method, 0) + 1
