"""What a replay said, from the `replay.json` it leaves. Its page names both verdicts, in its style if nowhere else."""

import json


def assert_identical(document: bytes, what: str, partition: str) -> None:
    found = json.loads(document)
    assert (found["what"], found["partition"]) == (what, partition)
    assert found["verdict"] == "identical", found["first_difference"]
    assert {artifact["verdict"] for artifact in found["replayed"]} == {"identical"}
