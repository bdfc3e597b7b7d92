"""Verifies the JWTs of a team. PyJWT does the cryptography and checks the claims.

A token must have ``exp``, because a stream ends when its credentials expire. ``exp``, ``nbf`` and ``iat``
must be numbers (RFC 7519, 2): PyJWT also takes texts of digits, which nothing after it can use.
``aud`` is checked as RFC 7519 (4.1.3) says: a token that names audiences is refused where none is configured.
The algorithm is one of the configured list *and* one that the key is made for; the header only picks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import jwt
from jwt import exceptions as bad
from jwt.warnings import InsecureKeyLengthWarning

from config.model.files import JwtConfig
from proxy.access.errors import BadToken, KeyProblem
from proxy.access.jwks import KeySets
from proxy.access.keys import ALGORITHMS, FixedKey, Key, Keys, fits
from proxy.access.tickets import TYPE
from proxy.access.token_cache import TokenCache

MAX_TOKEN: Final = 8192
"""Characters: the length of a request line or a header in most servers. Parsing more would cost time."""
FOREVER: Final = 253_402_300_799.0
"""The end of the year 9999: timers and dates cannot represent later times."""
MAX_TRIES: Final = 8
"""Keys tried for a token without a key id; issuers with more keys use ids."""
DATES: Final = ("exp", "nbf", "iat")

_REASONS: Final = (
    (bad.ExpiredSignatureError, "the token has expired"),
    (bad.ImmatureSignatureError, "the token is not valid yet"),
    (bad.InvalidAudienceError, "the token is for another audience"),
    (bad.InvalidIssuerError, "the token is from another issuer"),
    (bad.InvalidSubjectError, "the token's sub is not a string"),
    (
        bad.MissingRequiredClaimError,
        "the token lacks a claim: exp is needed, and aud and iss where auth.jwt sets them",
    ),
)
_UNREADABLE: Final = "the token cannot be read"
_SIGNATURE: Final = "the token is not signed with a key and an algorithm that are accepted here"


class JwtVerifier:
    """Verifies tokens by the team's algorithms, keys, audience and issuer."""

    def __init__(self, config: JwtConfig, key_sets: KeySets, *, now: Callable[[], float] = time.time) -> None:
        """Raises KeyProblem."""
        unknown = [each for each in config.algorithms if each not in ALGORITHMS]
        if unknown:
            raise KeyProblem(f"auth.jwt.algorithms must be some of {', '.join(sorted(ALGORITHMS))}")
        self._config: Final = config
        self._keys: Final = _keys(config, key_sets)
        self._now: Final = now
        self._verified: Final = TokenCache()
        self._weak: Final = isinstance(self._keys, FixedKey) and self._keys.weak

    def cached(self, token: str) -> tuple[Mapping[str, Any], float] | None:
        """The result of `read` for a token that was verified before and is still valid; None: call `read`."""
        keys = self._keys.cached
        return self._verified.recall(token, keys, self._now()) if keys else None

    async def read(self, token: str) -> tuple[Mapping[str, Any], float]:
        """The claims of a valid token, and when it expires (Unix seconds, leeway included).

        Raises BadToken and KeysUnavailable.
        """
        algorithm, key_id = self._header(token)
        keys = await self._keys.candidates(key_id, algorithm)
        known = self._verified.recall(token, keys, self._now())
        if known is not None:
            return known
        for key in keys[:MAX_TRIES]:
            try:
                claims = self._decode(token, key, algorithm)
                _check_dates(claims)
                until = min(float(claims["exp"]), FOREVER) + self._config.leeway
                self._verified.remember(token, key, claims, until)
                return claims, until
            except (bad.InvalidSignatureError, bad.InvalidKeyError):
                continue
            except (bad.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as problem:
                raise BadToken(_reason(problem)) from None
        raise BadToken(_SIGNATURE)

    def _header(self, token: str) -> tuple[str, str | None]:
        if len(token) > MAX_TOKEN:
            raise BadToken("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (bad.PyJWTError, ValueError, RecursionError):
            raise BadToken(_UNREADABLE) from None
        algorithm = header.get("alg")
        if algorithm not in self._config.algorithms or header.get("typ") == TYPE:
            raise BadToken(_SIGNATURE)
        return str(algorithm), header.get("kid")

    def _decode(self, token: str, key: Key, algorithm: str) -> Mapping[str, Any]:
        with _without_key_length_warning() if self._weak else nullcontext():
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._config.audience,
                issuer=self._config.issuer,
                leeway=self._config.leeway,
                options={"require": ["exp"]},
            )
        return claims


def _check_dates(claims: Mapping[str, Any]) -> None:
    """Raises BadToken."""
    for name in DATES:
        value = claims.get(name)
        if name in claims and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadToken(f"the token's {name} is not a number")


@contextmanager
def _without_key_length_warning() -> Iterator[None]:
    """A short HMAC secret is reported when the configuration is checked, not at each request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        yield


def _keys(config: JwtConfig, key_sets: KeySets) -> Keys:
    if config.key is not None:
        return FixedKey(config.key.get_secret_value(), config.algorithms)
    if config.jwks_url is None:
        raise KeyProblem("auth.jwt needs jwks_url or key")
    if all(fits(b"any", algorithm) for algorithm in config.algorithms):
        raise KeyProblem(
            "auth.jwt.algorithms are HMACs, whose secret is not published: give key, not jwks_url"
        )
    return key_sets.at(str(config.jwks_url))


def _reason(problem: Exception) -> str:
    return next((text for kind, text in _REASONS if isinstance(problem, kind)), _UNREADABLE)
