"""RandomSource: every random choice of an engine, from one seed, so that a run can be repeated."""

from __future__ import annotations

import random
import uuid


class RandomSource:
    """A seeded source of delays, ids and chances; without a seed each engine differs."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)

    def between(self, span: tuple[float, float]) -> float:
        """Seconds between two bounds."""
        return self._random.uniform(*span)

    def chance(self, probability: float) -> bool:
        """Whether something happens."""
        return self._random.random() < probability

    def uuid(self) -> str:
        """A version 4 UUID."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def hex(self, digits: int) -> str:
        """So many hexadecimal digits."""
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"
