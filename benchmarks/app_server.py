"""Serves the app for benchmarks/app.py as plugins/nightshift_app.py does: built at the first request.

The web framework is imported before, as it is in Airflow's API server.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import fastapi  # noqa: F401


@cache
def _app() -> Any:
    from nightshift.app.application import development_app

    return development_app()


async def serve(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] == "http":
        await _app()(scope, receive, send)
