"""Makes up what the rental shop would deliver for a partition: the same bytes every time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import numpy as np
import pandas as pd

FIRST = date(2020, 3, 1)
LAST = date(2020, 4, 30)
BOOKINGS_A_DAY = 40


def _day(day: date) -> pd.DataFrame:
    random = np.random.default_rng(day.toordinal())
    branch = random.choice(["north", "south"], BOOKINGS_A_DAY)
    customer = random.choice(["private", "trade"], BOOKINGS_A_DAY)
    hours = random.integers(1, 73, BOOKINGS_A_DAY).astype(float)
    chance = 1 / (1 + np.exp(-(hours / 18 - 3 + 1.5 * (customer == "trade") + 0.8 * (branch == "south"))))
    return pd.DataFrame(
        {
            "booking_date": day.isoformat(),
            "booking": np.arange(BOOKINGS_A_DAY) + 1,
            "branch": branch,
            "customer": customer,
            "hours": hours,
            "returned_late": (random.random(BOOKINGS_A_DAY) < chance).astype(int),
        }
    )


def deliveries(partition: date) -> Iterable[tuple[str, str, str, bytes]]:
    """The files of one partition as (feed, dt, file name, bytes)."""
    dt = partition.isoformat()
    tomorrow = _day(partition + timedelta(days=1)).drop(columns="returned_late")
    yield "bookings", dt, "bookings.csv", tomorrow.to_csv(index=False).encode()
    yield "returns", dt, "returns.csv", _day(partition).to_csv(index=False).encode()
