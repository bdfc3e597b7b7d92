"""Generated worlds by the thousand: how many, and that the same ones come each time.

``HEART_EXAMPLES`` sets how many of each law, new ones each time: 100000 take some minutes.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def many(usually: int) -> settings:
    """As many as ``HEART_EXAMPLES`` says; else `usually` so many, always the same."""
    asked = os.environ.get("HEART_EXAMPLES")
    return settings(
        max_examples=usually if asked is None else int(asked),
        deadline=None,
        derandomize=asked is None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
