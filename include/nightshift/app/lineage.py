"""The lineage page: one prediction, the version and calibration behind it, and the files it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightshift.app.page import PageContext
from nightshift.artifact import ArtifactRef, Manifest
from nightshift.errors import ConfigurationError, NightshiftError

FOLLOWED = 3
"""Larger groups of inputs are named by their first and last, and not followed: they are the history."""

DEEPEST = 5
EFFECTS = 12
"""Features shown, those that moved the score most."""


@dataclass(frozen=True)
class Source:
    """An input on the way from a prediction to landed files. `inputs`: its own, empty if it was shown before."""

    name: str
    what: str
    uri: str
    sha256: str
    rows: int
    page: str
    inputs: Sequence[Source]


def view(context: PageContext) -> dict[str, Any]:
    """Values of lineage.html.j2."""
    columns = context.use_case.prediction_key
    key = {column.name: context.query.get(column.name, "").strip() for column in columns}
    values: dict[str, Any] = {
        "title": "Lineage",
        "columns": columns,
        "key": key,
        "complete": all(key.values()),
        "example": _example(context),
        "error": "",
        "prediction": None,
    }
    if not all(key.values()):
        return values
    try:
        return values | _found(context, key)
    except NightshiftError as error:
        return values | {"error": str(error)}


def _example(context: PageContext) -> str:
    """The address of a prediction of the newest day."""
    rows = context.reader.rows(
        "SELECT {key} FROM {predictions} WHERE {prediction_date} = "
        "(SELECT max(prediction_date) FROM {publications} WHERE superseded_at IS NULL) ORDER BY {key} LIMIT 1"
    )
    if not rows:
        return ""
    return context.address("lineage", **{name: str(value) for name, value in rows[0].items()})


def _found(context: PageContext, key: Mapping[str, str]) -> dict[str, Any]:
    """The prediction with that key, and its sources."""
    # Arrow reads the landed row; the form alone must not wait for its import.
    from nightshift.services.lineage import calibration_of, landed_rows
    from nightshift.services.prediction_effects import effects_of

    prediction = context.reader.prediction(key)
    if prediction is None:
        return {"error": f"There is no prediction for {', '.join(key.values())}."}
    publication = prediction.publication
    outcome = context.reader.outcome(key)
    walker = _Walker(context)
    manifest = context.store.manifest(publication.scores)
    try:
        effects, no_effects = effects_of(context.use_case, context.store, prediction, seed=0)[:EFFECTS], ""
    except ConfigurationError as error:
        effects, no_effects = [], error.message
    return {
        "effects": effects,
        "no_effects": no_effects,
        "prediction": prediction,
        "publication": publication,
        "outcome": outcome,
        "calibration": calibration_of(context.store, prediction),
        "sources": walker.inputs_of(manifest, 1),
        "scores": publication.scores,
        "landed": landed_rows(context.use_case, context.store, prediction),
    }


class _Walker:
    """Follows the inputs of manifests as they record them; hashes are shown, not recomputed."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._seen: set[str] = set()

    def inputs_of(self, manifest: Manifest, depth: int) -> list[Source]:
        """The inputs of an artifact."""
        found = []
        for name, refs in manifest.inputs.items():
            if len(refs) > FOLLOWED:
                found.append(self._group(name, refs))
            else:
                found += [self._source(name, ref, depth) for ref in refs]
        return found

    def _group(self, name: str, refs: Sequence[ArtifactRef]) -> Source:
        rows = sum(ref.rows for ref in refs)
        places = sorted(ref.uri for ref in refs)
        return Source(name, f"{len(refs)} artifacts", f"{places[0]} .. {places[-1]}", "", rows, "", ())

    def _source(self, name: str, ref: ArtifactRef, depth: int) -> Source:
        if not ref.uri.endswith("/"):
            return Source(name, "landed file", ref.uri, ref.sha256, ref.rows, "", ())
        manifest = self._context.store.manifest(ref)
        what = f"{manifest.step} {manifest.partition} {manifest.variant}".strip()
        page = self._context.address("night", manifest.partition)
        again = ref.sha256 in self._seen or depth >= DEEPEST
        self._seen.add(ref.sha256)
        inputs = () if again else self.inputs_of(manifest, depth + 1)
        return Source(name, what, ref.uri, ref.sha256, ref.rows, page, inputs)
