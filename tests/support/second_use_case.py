"""The second use case, `late_returns`: where it is, and how to load it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "second_use_case"
