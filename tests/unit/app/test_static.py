"""The files that the app serves to browsers."""

from __future__ import annotations

import json

from nightshift.app.page import STATIC
from nightshift.declare.discovery import PROJECT_ROOT


def test_the_charting_library_is_the_locked_one() -> None:
    lock = json.loads((PROJECT_ROOT / "scripts/echarts/package-lock.json").read_text())["packages"]
    banner = (STATIC / "vendor/echarts.min.js").read_text(encoding="utf-8").splitlines()[0]
    assert f"Apache ECharts {lock['node_modules/echarts']['version']} " in banner
    licences = (STATIC / "vendor/LICENSES.txt").read_text(encoding="utf-8")
    assert "The Apache Software Foundation" in licences
    assert "==== zrender ====" in licences


def test_nothing_is_loaded_from_elsewhere() -> None:
    for path in STATIC.glob("*.*"):
        assert "http" not in path.read_text(encoding="utf-8"), path
