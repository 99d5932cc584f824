"""An e-process for comparing two forecasters: a test that may be evaluated after every partition.

Choe and Ramdas, "Comparing Sequential Forecasters", Operations Research 72(4), 2023; the bets are those of
Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 86(1), 2023.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FRACTIONS = (0.1, 0.2, 0.4, 0.8)
"""Shares of the wealth that are bet; the e-value is the mean over bets of each size."""


def e_values(differences: npt.NDArray[np.float64], clip: float) -> npt.NDArray[np.float64]:
    """The evidence after each partition that the first forecaster's loss exceeds the second's; shape [n].

    `differences` [n] are losses of the first minus losses of the second, in nats, oldest first; each counts as at
    most `clip` and at least -`clip`. With d the clipped difference divided by `clip`, the e-value is the mean over
    fractions f of the product of (1 + f * d).

    If the expected clipped difference, given the past, is never above 0, the e-value ever reaches 1 / a with a
    probability of at most a (Ville's inequality), however often it is evaluated. Autocorrelated differences violate
    that condition: tests/unit/core/lifecycle/test_e_process.py measures by how much.
    """
    share = np.clip(differences, -clip, clip) / clip
    log_wealth = np.cumsum(np.log1p(np.outer(FRACTIONS, share)), axis=1)
    wealth: npt.NDArray[np.float64] = np.exp(log_wealth).mean(axis=0)
    return wealth
