"""docs/dags says what the DAG files say."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_pages_are_up_to_date():
    spec = importlib.util.spec_from_file_location("generate_dag_pages", ROOT / "docs" / "generate_dag_pages.py")
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    pages = generator.pages()
    stale = [p.name for p, text in pages.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    assert not stale, "run `make docs`"
    assert {p.name for p in generator.PAGES.glob("*.md")} == {p.name for p in pages}
