"""The second use case, `late_returns`, and the one that reads its predictions, `late_fees`: where they are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "second_use_case"
CONSUMER_ROOT = Path(__file__).resolve().parents[1] / "consuming_use_case"
