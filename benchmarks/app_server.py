"""Serves the app for benchmarks/app.py as plugins/nightshift_app.py does: imported when the server starts."""

from __future__ import annotations

from nightshift.app.application import development_app

app = development_app()
