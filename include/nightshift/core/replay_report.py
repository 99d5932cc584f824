"""What a replay found: values for `replay.json`, and the same as one HTML page, readable without any server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2

from nightshift.artifact import Manifest

TEMPLATE = Path(__file__).with_name("replay_report.html.j2")

Verdict = Literal["identical", "differs"]


@dataclass(frozen=True)
class Replayed:
    """One recorded artifact and what rebuilding it gave.

    `differences` says in words what is not as recorded: inputs, parameters, files, or the error that
    was raised. `files` has both hashes of each file that differs: {path: (recorded, rebuilt)}, None
    where only one of them has the file. `declared_otherwise` are parameters that the use case
    declares otherwise today and that were taken from the manifest instead.
    """

    step: str
    variant: str
    partition: str
    uri: str
    sha256: str
    differences: tuple[str, ...] = ()
    files: Mapping[str, tuple[str | None, str | None]] | None = None
    declared_otherwise: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Step and, of a mapped step, which call of it."""
        return f"{self.step} {self.variant}" if self.variant else self.step

    @property
    def verdict(self) -> Verdict:
        """Identical if nothing differs."""
        return "differs" if self.differences else "identical"

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "step": self.step,
            "variant": self.variant,
            "partition": self.partition,
            "uri": self.uri,
            "sha256": self.sha256,
            "verdict": self.verdict,
            "differences": list(self.differences),
            "files": {
                path: {"recorded": recorded, "rebuilt": rebuilt}
                for path, (recorded, rebuilt) in (self.files or {}).items()
            },
            "declared_otherwise": list(self.declared_otherwise),
        }


def environment_differences(
    manifests: Sequence[Manifest], code_version: str, lock_sha256: str, libraries: Mapping[str, str]
) -> list[dict[str, str]]:
    """Code version, lock and library versions that are not what artifacts were made with.

    Each {"what", "recorded", "now", "steps"}, "steps" naming the steps whose artifacts say so; ""
    stands for unknown or not installed.
    """
    found: dict[tuple[str, str, str], set[str]] = {}
    for manifest in manifests:
        pairs = [
            ("code version", manifest.code_version, code_version),
            ("dependency lock", manifest.lock_sha256, lock_sha256),
            *(
                (name, manifest.libraries.get(name, ""), libraries.get(name, ""))
                for name in sorted({*manifest.libraries, *libraries})
            ),
        ]
        for what, recorded, now in pairs:
            if recorded != now:
                found.setdefault((what, recorded, now), set()).add(manifest.step)
    return [
        {"what": what, "recorded": recorded, "now": now, "steps": ", ".join(sorted(steps))}
        for (what, recorded, now), steps in found.items()
    ]


def summarise(
    what: str,
    partition: str,
    replayed: Sequence[Replayed],
    environment: Sequence[Mapping[str, str]],
    taken_as_recorded: Mapping[str, int],
) -> dict[str, Any]:
    """What `replay.json` holds: the verdict, the first step that differs and how, and every artifact rebuilt.

    `taken_as_recorded` counts by step the artifacts that were read, checked byte by byte and not rebuilt.
    """
    first = next((artifact for artifact in replayed if artifact.differences), None)
    return {
        "what": what,
        "partition": partition,
        "verdict": "differs" if first else "identical",
        "first_difference": first.to_json() if first else None,
        "replayed": [artifact.to_json() for artifact in replayed],
        "environment": list(environment),
        "taken_as_recorded": dict(taken_as_recorded),
    }


def render(summary: Mapping[str, Any], *, title: str) -> str:
    """The page for what `summarise` returned. Equal summaries give an equal page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    first = summary["first_difference"]
    named = f"{first['step']} {first['variant']}".strip() if first else ""
    return template.render(replay=summary, title=title, first=named)
