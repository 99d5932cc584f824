"""Makes up what the rental shop's cashier would deliver: a fee is charged for most of the tools that come back late."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import date

import numpy as np
import pandas as pd
from late_returns import replay as rental_desk

FIRST = date(2020, 3, 17)
LAST = rental_desk.LAST


def deliveries(partition: date) -> Iterable[tuple[str, str, str, bytes]]:
    """The files of one partition as (feed, dt, file name, bytes)."""
    files = {feed: pd.read_csv(io.BytesIO(body)) for feed, _, _, body in rental_desk.deliveries(partition)}
    key = ["booking_date", "booking", "branch"]
    yield "bookings", partition.isoformat(), "bookings.csv", files["bookings"][key].to_csv(index=False).encode()
    returned = files["returns"]
    random = np.random.default_rng(partition.toordinal()).random(len(returned))
    fees = returned[key].assign(charged=returned["returned_late"] * (random < 0.9))
    yield "fees", partition.isoformat(), "fees.csv", fees.to_csv(index=False).encode()
