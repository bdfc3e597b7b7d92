"""Closes open streams that would not be admitted now: at a reload, when an issuer's keys change, regularly.

A stream is checked as a new request would be: its Origin, its credential, `allow`. One that fails gets
``stream.expired``; the client reconnects and gets the reason. Limits are not checked again, and while an
issuer's keys are unavailable nothing is decided.
"""

from __future__ import annotations

import asyncio

from proxy.access.authenticator import KeysUnavailable, Unauthenticated
from proxy.server.http.client_request import allow_root
from proxy.streams.session import Session
from proxy.teams.hub import Hub


class Rechecker:
    """Checks the sessions of `hub` every ``server.recheck``, and when `soon` is called."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._wake = asyncio.Event()

    def soon(self) -> None:
        """Check soon: rights may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._hub.server.recheck):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self.check_all()

    async def check_all(self) -> None:
        """Check each open stream once, one in each turn of the loop."""
        for session in self._hub.sessions:
            await asyncio.sleep(0)
            if session.entitlement is None:
                continue
            try:
                admitted = await self._would_admit(session)
            except Exception as error:  # an error in one stream must not end the checks of the others
                self._hub.event_log.unforeseen(session.entitlement.team, error)
                continue
            if not admitted:
                session.expire()

    async def _would_admit(self, session: Session) -> bool:
        entitlement = session.entitlement
        assert entitlement is not None
        team = self._hub.teams.get(entitlement.team)
        stream = None if team is None else team.streams.get(session.stream)
        if team is None or stream is None:
            return True  # its removal has ended it (`Ending.DROPPED`)
        if stream.origins.decide(entitlement.head.headers, entitlement.scheme).refused is not None:
            return False
        try:
            identity = await team.authenticator.confirm(
                entitlement.identity, stream=session.stream, run=entitlement.run
            )
        except Unauthenticated:
            return False
        except KeysUnavailable:
            return True
        state = session.run.state
        if stream.allow is None or state is None:
            return True
        return stream.allow.permits(allow_root(identity, state, entitlement.head))
