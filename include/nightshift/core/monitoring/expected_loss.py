"""An estimate of a night's log loss before its labels are known, with a band from its own past errors.

Scores that are right promise a log loss: the mean of their entropies (`expected_log_loss`). How far the loss was from
it on earlier nights says how much the promise is worth.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

ERRORS_USED = 60
LEAST_ERRORS = 10


@dataclass(frozen=True)
class Estimate:
    """The promised loss of a night, and where it and the errors of earlier nights put the loss in 8 of 10 nights."""

    expected: float | None
    low: float | None
    high: float | None


def estimates(expected: Sequence[float | None], observed: Sequence[float | None]) -> list[Estimate]:
    """An estimate for each night, the oldest first, from the errors of up to 60 nights before it with both numbers.

    Without at least ten of them there is no band. Band: the promise plus the 10 % and 90 % quantiles of the errors.
    """
    errors: list[float] = []
    result = []
    for promise, loss in zip(expected, observed, strict=True):
        low = high = None
        if promise is not None and len(errors) >= LEAST_ERRORS:
            deciles = statistics.quantiles(errors[-ERRORS_USED:], n=10, method="inclusive")
            low, high = max(promise + deciles[0], 0.0), promise + deciles[-1]
        result.append(Estimate(promise, low, high))
        if promise is not None and loss is not None:
            errors.append(loss - promise)
    return result
