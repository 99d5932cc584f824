"""What every page gets and how it becomes HTML: its context, the templates, their filters, addresses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2

from nightshift.app.charts import fixed, percentage, signed
from nightshift.artifact import sha256_hex
from nightshift.declare.use_case import UseCase
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.warehouse.reader import Reader

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"

PAGES = (
    ("", "Overview"),
    ("model", "Model"),
    ("drift", "Drift"),
    ("performance", "Performance"),
    ("data", "Data"),
    ("lineage", "Lineage"),
    ("runs", "Runs"),
    ("reports", "Reports"),
)
"""The pages of a use case: address below it, and title."""

LONGEST_DAYS = 366
"""No query of a page reads more partitions."""


@dataclass(frozen=True)
class Site:
    """Where the app is: `base`, the path it is mounted at; `airflow`, the path of Airflow's own pages."""

    base: str
    airflow: str

    def address(self, *parts: str, **query: str) -> str:
        """The address of a page below the app."""
        path = "/".join(quote(part, safe="") for part in parts)
        return f"{self.base}/{path}" + (f"?{urlencode(query)}" if query else "")


@dataclass(frozen=True)
class PageContext:
    """What a page of a use case reads from. `query`: parameters of the address; `now`: with a time zone."""

    use_case: UseCase
    reader: Reader
    store: ArtifactStore
    site: Site
    query: Mapping[str, str]
    now: datetime

    def address(self, *parts: str, **query: str) -> str:
        """The address of a page of the use case."""
        return self.site.address(self.use_case.name, *parts, **query)

    def report(self, report: str, partition: date | str, page: str) -> str:
        """The address of a file of a report: see services.report_pages."""
        return self.site.address("files", self.use_case.name, report, str(partition)) + f"/{page}"

    def choice(self, name: str, options: Sequence[str]) -> str:
        """The value of a parameter of the address, if it is among the options; else the first option, or ""."""
        value = self.query.get(name, "")
        return value if value in options else options[0] if options else ""


def render(template: str, site: Site, **context: Any) -> str:
    """The HTML of a template."""
    return (
        _environment()
        .get_template(template)
        .render(
            base=site.base,
            airflow=site.airflow,
            address=site.address,
            static=lambda path: f"{site.base}/static/{path}?{static_version(path)}",
            **context,
        )
    )


@cache
def static_version(path: str) -> str:
    """Changes with the content of a static file, so that browsers may keep it."""
    return sha256_hex((STATIC / path).read_bytes())[:12]


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": fixed,
        "percentage": percentage,
        "signed": signed,
        "quoted": lambda text: quote(text, safe=""),
        "age": age,
        "moment": lambda moment: f"{moment:%Y-%m-%d %H:%M} UTC",
        "count": lambda number: "-" if number is None else f"{number:,}",
    }
    environment.globals |= {"use_case": None, "page": "", "others": (), "trail": (), "pages": PAGES}
    return environment


def age(seconds: float) -> str:
    """A duration in words, in its largest unit."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return "less than a minute"
