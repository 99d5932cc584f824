"""Predictions of another use case, as the source of a feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nightshift.errors import ConfigurationError

OnMissing = Literal["hold", "degrade"]


@dataclass(frozen=True)
class Predictions:
    """The published predictions of another use case, as the source of a feed.

    Partition D reads those that partition D - `lag` of `use_case` published, whose cutoff has to be before that of D.
    With lag 0 they are for the day that D predicts; with lag 1 for day D itself, whose outcomes D delivers.
    `on_missing` says what happens if there are none that may be used: `hold` rejects the partition, `degrade` delivers
    the feed without rows, so that features of it are null. Predictions of the fallback are used with `accept_fallback`
    only; those of other versions are not used while the kill switch of `use_case` is on.
    """

    use_case: str
    lag: int = 1
    on_missing: OnMissing = "hold"
    accept_fallback: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigurationError for another `lag` or `on_missing`."""
        if self.lag not in (0, 1) or self.on_missing not in get_args(OnMissing):
            raise ConfigurationError(
                "NS-UPSTREAM-005",
                f"Predictions of {self.use_case!r} are declared with lag {self.lag!r} and on_missing "
                f"{self.on_missing!r}; lag is 0 or 1, on_missing one of {', '.join(get_args(OnMissing))}.",
            )
