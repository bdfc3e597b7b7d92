"""The cache of verified tokens: an entry is valid until the token expires or its key is replaced."""

from __future__ import annotations

from proxy.access.token_cache import TokenCache

KEY, OTHER = object(), object()
CLAIMS = {"sub": "u"}


def test_a_token_is_remembered_until_it_expires() -> None:
    verified = TokenCache()
    verified.remember("t", KEY, CLAIMS, 100.0)
    assert verified.recall("t", (OTHER, KEY), 99.9) == (CLAIMS, 100.0)
    assert verified.recall("u", (KEY,), 99.9) is None
    assert verified.recall("t", (KEY,), 100.0) is None
    assert len(verified) == 0


def test_a_token_is_forgotten_with_its_key() -> None:
    verified = TokenCache()
    verified.remember("t", KEY, CLAIMS, 100.0)
    assert verified.recall("t", (OTHER,), 0.0) is None
    assert verified.recall("t", (KEY,), 0.0) is None, (
        "after its key was missing once, the token must be verified again"
    )


def test_an_equal_key_object_is_another_key() -> None:
    verified = TokenCache()
    verified.remember("t", b"".join([b"a", b"b"]), CLAIMS, 100.0)
    assert verified.recall("t", (b"".join([b"a", b"b"]),), 0.0) is None


def test_the_oldest_are_forgotten_first_and_the_token_itself_is_not_kept() -> None:
    verified = TokenCache(most=30)
    for number in range(5):
        verified.remember(f"token-{number:04}", KEY, CLAIMS, 100.0)
    verified.remember("token-0004", KEY, CLAIMS, 100.0)
    assert len(verified) == 3
    assert verified.recall("token-0001", (KEY,), 0.0) is None
    assert verified.recall("token-0002", (KEY,), 0.0) is not None
    verified.remember("x" * 31, KEY, CLAIMS, 100.0)
    assert len(verified) == 0
    assert "token" not in repr(vars(verified))
