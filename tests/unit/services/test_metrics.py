"""The metrics' text, and the example of alerting rules on them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nightshift.services.metrics import GAUGES, Families, Sample

RULES = Path(__file__).resolve().parents[3] / "config" / "prometheus" / "nightshift.rules.yaml"


def families(samples: list[tuple[str, Sample]]) -> dict[str, list[tuple[dict[str, str], float]]]:
    registry = CollectorRegistry()
    registry.register(Families(samples))
    text = generate_latest(registry).decode()
    return {
        family.name: [(one.labels, one.value) for one in family.samples]
        for family in text_string_to_metric_families(text)
    }


def test_samples_of_all_use_cases_are_in_one_family() -> None:
    samples = [
        ("flights", Sample("log_loss", 0.5, {"role": "published"})),
        ("parcels", Sample("log_loss", 0.25, {"role": 'a "role"\nof two lines'})),
        ("parcels", Sample("kill_switch", True)),
    ]
    found = families(samples)
    assert list(found) == [f"nightshift_{name}" for name in GAUGES]
    assert found["nightshift_log_loss"] == [
        ({"use_case": "flights", "role": "published"}, 0.5),
        ({"use_case": "parcels", "role": 'a "role"\nof two lines'}, 0.25),
    ]
    assert found["nightshift_kill_switch"] == [({"use_case": "parcels"}, 1.0)]
    assert found["nightshift_up"] == []


def test_the_example_rules_name_gauges_that_exist() -> None:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        named = re.findall(r"nightshift_(\w+)", rule["expr"])
        assert named, rule["alert"]
        assert set(named) <= set(GAUGES), rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")"), rule["alert"]
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert label in ("use_case", "stage", "feed", "step"), rule["alert"]
