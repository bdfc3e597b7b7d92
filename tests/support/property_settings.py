"""The settings of property tests: one profile for all, and `many` for the laws of the run reconciler.

Each run draws new examples; tests/conftest.py chooses and prints the seed. A failure prints the seed and a
`@reproduce_failure` line. An example that failed once is written into its test as `@example`.
"""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

PROFILE: Final = "project"


def load_profile() -> None:
    """Make the shared profile the default of every property test, in place of hypothesis's own for CI.

    A machine under load draws slowly and answers late; neither is a fault of the code under test, so there is
    no deadline per example and no health check for slow drawing. pytest-timeout bounds the whole test.
    """
    settings.register_profile(
        PROFILE,
        deadline=None,
        derandomize=False,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.load_profile(PROFILE)


def many(usually: int) -> settings:
    """Settings with as many examples as ``HEART_EXAMPLES`` says, else `usually`.

    100,000 examples of each law take some minutes.
    """
    return settings(max_examples=int(os.environ.get("HEART_EXAMPLES", usually)))
