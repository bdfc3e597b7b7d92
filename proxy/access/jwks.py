"""The published keys of an issuer (JWKS, RFC 7517): fetched on first use, cached, refreshed and rotated.

`check` is called every few seconds (`proxy.teams.prober`), also while no client is there: it fetches a set
that is older than `REFRESH_AFTER`, or whose last fetch failed. So trouble is known without a client, and a
key that the issuer has revoked is accepted for at most `FRESH` seconds. A token that names an unknown key
triggers a fetch at once (key rotation), within a rate limit that protects the issuer.

If the issuer is down, the cached keys are used for up to `USABLE` seconds, revoked ones among them. If
the cached keys do not decide then, `KeysUnavailable` is raised and the client waits: a token is never
rejected for lack of keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from proxy.access.errors import KeysUnavailable, NoKeys
from proxy.core.clock import Clock, LoopClock

if TYPE_CHECKING:
    import aiohttp

    from proxy.access.keys import Key, PublishedKey

FRESH: Final = 300.0
"""Seconds for which a set is used without another fetch (as in PyJWT's client). With an older one a
request waits for the fetch, unless the last one failed."""
REFRESH_AFTER: Final = 25.0
"""Seconds after which a probe (one each 20 seconds) fetches a set again. So an issuer whose keys cannot be
had is known within a minute, although the cached ones still serve. It answers one or two fetches a minute."""
USABLE: Final = 24 * 3600.0
"""Seconds for which a set is used while the issuer is down; a token rarely lives longer than a day."""
SOONEST: Final = 10.0
"""Seconds per fetch on average: tokens with forged key ids must not make us flood the issuer."""
BURST: Final = 5
"""Fetches that may come faster than that: a key rotation or two."""
PATIENCE: Final = 5.0
"""Seconds for a whole fetch; a browser is waiting."""
MAX_SET_BYTES: Final = 1 << 20
"""A set of a hundred RSA keys is 60 KB."""
MISSING_FOR: Final = 30.0
"""Seconds for which an unknown key is not fetched again. Later it is, because a CDN may lag behind."""
MAX_MISSING: Final = 256
"""Key ids remembered as unknown. Forgetting them costs a fetch; keeping all would cost memory."""

Changed = Callable[[], None]
"""Called when an issuer publishes other keys than before."""
Fetch = Callable[[str], Awaitable[bytes]]
"""Fetches the document at a URL; raises OSError, ValueError or TimeoutError."""


def _nothing() -> None:
    """Nobody listens."""


class KeySet:
    """The published keys at one URL: cached, fetched once for all waiting requests, kept during outages."""

    def __init__(
        self,
        url: str,
        fetch: Fetch,
        clock: Clock,
        patience: float = PATIENCE,
        changed: Changed = _nothing,
    ) -> None:
        """`patience`: seconds for a fetch."""
        self.url: Final = url
        self._changed: Final = changed
        self._fetch: Final = fetch
        self._clock: Final = clock
        self._patience: Final = patience
        self.trouble: str | None = None  # why the last fetch gave no usable keys
        self._keys: tuple[PublishedKey, ...] = ()
        self._fetched_at: float | None = None
        self._allowance: float = BURST
        self._counted_at: float = clock.now()
        self._fetching: asyncio.Task[bool] | None = None
        self._missing: dict[tuple[str | None, str], float] = {}

    async def candidates(self, key_id: str | None, algorithm: str) -> Sequence[Key]:
        asked = await self._freshened()
        found = self._look(key_id, algorithm)
        if found or asked or self._known_missing(key_id, algorithm):
            return found
        if not await self._renew():
            raise KeysUnavailable(
                "the token names a key that is not known yet, and the issuer is unreachable now"
            )
        found = self._look(key_id, algorithm)
        if not found:
            self._remember_missing(key_id, algorithm)
        return found

    async def check(self) -> None:
        """Fetch the keys if they are old or the last fetch failed; `trouble` has the result. Never raises."""
        if self._age() > REFRESH_AFTER or self.trouble is not None:
            await self._renew()

    @property
    def cached(self) -> Sequence[Key]:
        return tuple(key.key for key in self._keys) if self._age() <= FRESH else ()

    async def _freshened(self) -> bool:
        """Make sure that there are usable keys; returns whether they were fetched just now.

        Raises KeysUnavailable.
        """
        age = self._age()
        if age <= FRESH:
            return False
        if age <= USABLE and self.trouble is not None:
            self._begin()  # no client waits for an issuer that is known to be down
            return False
        asked = await self._renew()
        if self._age() > USABLE:
            raise KeysUnavailable("the issuer's keys cannot be fetched")
        return asked

    def _look(self, key_id: str | None, algorithm: str) -> tuple[Key, ...]:
        return tuple(key.key for key in self._keys if key.may_verify(key_id, algorithm))

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock.now() - self._fetched_at

    def _known_missing(self, key_id: str | None, algorithm: str) -> bool:
        at = self._missing.get((key_id, algorithm))
        return at is not None and self._clock.now() - at < MISSING_FOR

    def _remember_missing(self, key_id: str | None, algorithm: str) -> None:
        if len(self._missing) >= MAX_MISSING:
            self._missing.clear()
        self._missing[key_id, algorithm] = self._clock.now()

    async def _renew(self) -> bool:
        """Fetch, or join the running fetch; False if the rate limit forbids it or it failed."""
        fetching = self._begin()
        # Shielded: a client that leaves must not cancel the fetch that others wait for.
        return fetching is not None and await asyncio.shield(fetching)

    def _begin(self) -> asyncio.Task[bool] | None:
        if self._fetching is None and self._may_fetch():
            self._fetching = asyncio.create_task(self._load())
        return self._fetching

    def _may_fetch(self) -> bool:
        now = self._clock.now()
        self._allowance = min(BURST, self._allowance + (now - self._counted_at) / SOONEST)
        self._counted_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def _load(self) -> bool:
        from proxy.access.keys import read_set  # noqa: PLC0415 - loads cryptography

        try:
            async with asyncio.timeout(self._patience):
                keys = read_set(await self._fetch(self.url))
        except (TimeoutError, OSError, ValueError, RecursionError) as error:
            self.trouble = _trouble(self.url, error)
            return False
        finally:
            self._fetching = None
        self.trouble = None
        changed = keys != self._keys
        self._keys, self._fetched_at = keys, self._clock.now()
        if changed:
            self._missing.clear()
            self._changed()
        return True

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])


class KeySets:
    """The key sets of the process, one for each URL; shared by teams and kept over reloads."""

    def __init__(
        self, fetch: Fetch | None = None, clock: Clock | None = None, *, changed: Changed = _nothing
    ) -> None:
        self._changed: Final = changed
        self._clock: Final = clock or LoopClock()
        self._own_fetch: Final = fetch
        self._session: aiohttp.ClientSession | None = None
        self._sets: Final[dict[str, KeySet]] = {}

    def at(self, url: str) -> KeySet:
        if url not in self._sets:
            self._sets[url] = KeySet(
                url, self._own_fetch or self._over_http, self._clock, changed=self._changed
            )
        return self._sets[url]

    async def close(self) -> None:
        for key_set in self._sets.values():
            await key_set.close()
        if self._session is not None:
            await self._session.close()

    async def _over_http(self, url: str) -> bytes:
        """GET with a size limit, without cookies and redirects: only the configured address is trusted."""
        import aiohttp  # noqa: PLC0415 - 0.2 s and 8 MB, for issuers only

        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        try:
            return await _get(self._session, url)
        except aiohttp.ClientError as error:
            raise OSError(type(error).__name__) from None


def _trouble(url: str, error: Exception) -> str:
    """Why no keys could be had, with the issuer's host alone: a URL may hold a secret."""
    where = f"the issuer at {urlsplit(url).hostname}"
    if isinstance(error, TimeoutError):
        return f"{where} does not answer in time"
    if isinstance(error, IssuerAnswer | NoKeys):
        return f"{where} {error}"
    if isinstance(error, OSError):
        return f"{where} cannot be reached ({error})"
    return f"{where} publishes no key that can be used"


class IssuerAnswer(ValueError):
    """The issuer answered something else than a set of keys; the text is the proxy's own."""


async def _get(session: aiohttp.ClientSession, url: str) -> bytes:
    headers = {"Accept": "application/jwk-set+json, application/json"}
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        if 300 <= answer.status < 400:
            raise IssuerAnswer(f"answers with a redirect (HTTP {answer.status}), which is not followed")
        if answer.status != 200:
            raise IssuerAnswer(f"answers HTTP {answer.status}")
        text = bytearray()
        async for piece in answer.content.iter_chunked(65536):
            text += piece
            if len(text) > MAX_SET_BYTES:
                raise IssuerAnswer("answers with a key set that is too large")
    return bytes(text)
