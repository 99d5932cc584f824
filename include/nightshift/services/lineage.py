"""Traces one published prediction back to the landed files it was computed from.

Every artifact's manifest names its inputs with their hashes; the path starts at the warehouse row and follows them.
The hashes of all manifests on the way are recomputed, and those of the landed files and of artifacts that are the
only member of their group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from nightshift.artifact import ArtifactRef, Manifest
from nightshift.core.ingest.quarantine import LANDED_ROW, LANDED_URI, LINEAGE
from nightshift.declare.use_case import UseCase
from nightshift.documents.predict import Calibration, ModelChoice
from nightshift.errors import ArtifactCorrupt, ConfigurationError
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.object_store import in_parallel
from nightshift.io.warehouse.publications import Prediction
from nightshift.io.warehouse.warehouse import Warehouse
from nightshift.settings import Settings

SHOWN_DIGITS = 12
LEAVES = ("past_scores",)
"""Inputs that are verified and shown, but not followed: scores depend on a calibration, which depends on earlier
scores, and so on to the first partition."""


def trace(use_case: UseCase, settings: Settings, store: ArtifactStore, key: Mapping[str, str]) -> str:
    """A readable tree from the prediction with that key down to landed files.

    `key` maps each column of the use case's prediction key to its value as text. Raises
    ConfigurationError if there is no such prediction and ArtifactCorrupt if anything on the path
    is missing or does not have the recorded hash.
    """
    prediction = Warehouse(settings, use_case).prediction(key)
    if prediction is None:
        raise ConfigurationError(
            "NS-STORE-002",
            f"There is no prediction for {' '.join(key.values())} in {use_case.name}.predictions: "
            f"check the key ({', '.join(key)}) and that the day was published.",
        )
    publication = prediction.publication
    scores = publication.scores.model_copy(update={"rows": publication.rows})
    decision = "at or above the threshold" if prediction.is_positive else "below the threshold"
    lines = [
        f"{use_case.name}  {'  '.join(str(prediction.columns[name]) for name in use_case.key_columns)}",
        f"  {use_case.score} = {prediction.score:.4f} ({decision}), "
        f"predicted {prediction.predicted_at:%Y-%m-%d %H:%M:%S} UTC",
        f"  version {_scored_by(prediction)}, publication {_short(publication.publish_id)} of "
        f"partition {publication.partition}, {publication.rows} rows",
        f"  {calibration_of(store, prediction)}",
    ]
    walker = _Walker(store, use_case.name)
    lines += walker.tree({"scores": [scores]}, "")
    lines += landed_rows(use_case, store, prediction)
    lines.append(
        f"verified: {len(walker.known)} manifests, {walker.files} files of artifacts, {walker.landed} landed files; "
        "every hash is the one that its consumer recorded"
    )
    return "\n".join(lines)


class _Walker:
    """Walks groups of inputs. A group of several artifacts is one line, followed by the union of their inputs.

    Steps of another use case than `use_case` are named with it.
    """

    def __init__(self, store: ArtifactStore, use_case: str) -> None:
        self._store, self._use_case = store, use_case
        self.known: dict[str, Manifest] = {}
        self._hashed: set[str] = set()
        self._expanded: set[tuple[str, ...]] = set()
        self.files = self.landed = 0

    def tree(self, groups: Mapping[str, Sequence[ArtifactRef]], indent: str) -> Iterator[str]:
        """Lines of all groups, in the order of their consumer's manifest."""
        filled = [(name, _distinct(part)) for name, refs in groups.items() for part in _artifacts_and_files(refs)]
        for position, (name, refs) in enumerate(filled):
            last = position == len(filled) - 1
            below = indent + ("   " if last else "│  ")
            yield from self._group(name, refs, f"{indent}{'└─ ' if last else '├─ '}", below)

    def _group(self, name: str, refs: Sequence[ArtifactRef], mark: str, below: str) -> Iterator[str]:
        if not refs[0].uri.endswith("/"):
            yield from self._landed_files(name, refs, mark, below)
            return
        manifests = self._load(refs)
        identity = tuple(ref.sha256 for ref in refs)
        seen = identity in self._expanded
        self._expanded.add(identity)
        note = "  (traced above)" if seen else ""
        if len(refs) == 1:
            (ref,), (manifest,) = refs, manifests
            step = f"{self._step(manifest)} {_label(manifest)}"
            yield f"{mark}{name}: {step}{_rows(refs)}  sha256 {_short(ref.sha256)}{note}"
            if not seen:
                self._hash_files(ref, manifest)
                yield f"{below}{'│' if any(manifest.inputs.values()) else ' '}    {ref.uri}"
        else:
            steps = ", ".join(sorted({self._step(manifest) for manifest in manifests}))
            labels = sorted(_label(manifest) for manifest in manifests)
            yield f"{mark}{name}: {len(refs)} partitions of {steps}  {labels[0]} .. {labels[-1]}{_rows(refs)}{note}"
        if not seen and name not in LEAVES:
            yield from self.tree(_union(manifests), below)

    def _step(self, manifest: Manifest) -> str:
        return manifest.step if manifest.use_case == self._use_case else f"{manifest.use_case} {manifest.step}"

    def _landed_files(self, name: str, refs: Sequence[ArtifactRef], mark: str, below: str) -> Iterator[str]:
        fresh = [ref for ref in refs if ref.uri not in self._hashed]
        in_parallel(self._hash_landed, fresh)
        self._hashed |= {ref.uri for ref in fresh}
        self.landed += len(fresh)
        if len(refs) <= 4:
            for position, ref in enumerate(refs):
                head = mark + f"{name}: " if position == 0 else below + " " * (len(name) + 2)
                yield f"{head}{ref.uri}{_rows([ref])}  sha256 {_short(ref.sha256)}"
            return
        yield f"{mark}{name}: {len(refs)} files{_rows(refs)}"
        for word, ref in (("first", refs[0]), ("last ", refs[-1])):
            yield f"{below}   {word} {ref.uri}  sha256 {_short(ref.sha256)}"

    def _load(self, refs: Sequence[ArtifactRef]) -> list[Manifest]:
        fresh = [ref for ref in refs if ref.sha256 not in self.known]
        for ref, manifest in zip(fresh, in_parallel(self._store.manifest, fresh), strict=True):
            self.known[ref.sha256] = manifest
        return [self.known[ref.sha256] for ref in refs]

    def _hash_files(self, ref: ArtifactRef, manifest: Manifest) -> None:
        in_parallel(lambda entry: self._store.read(ref, entry.path), manifest.files)
        self.files += len(manifest.files)

    def _hash_landed(self, ref: ArtifactRef) -> None:
        sha256 = self._store.sha256(self._store.key(ref.uri))
        if sha256 != ref.sha256:
            state = "is gone" if sha256 is None else "was changed after it was read"
            raise ArtifactCorrupt(
                "NS-STORE-004", f"The landed file {ref.uri} {state}: restore the delivery with sha256 {ref.sha256}."
            )


def _scored_by(prediction: Prediction) -> str:
    """The version that scored a row: the primary, or a canary."""
    publication = prediction.publication
    primary = f"{publication.model_version} ({publication.role} {publication.spec_id})"
    if prediction.model_version == publication.model_version:
        return primary
    return f"{prediction.model_version} (canary; primary {primary})"


def calibration_of(store: ArtifactStore, prediction: Prediction) -> str:
    """One line about the calibration of the row's score."""
    calibration = prediction.publication.calibration
    (choice,) = store.manifest(calibration).inputs["model_choice"]
    spec_of = {one.model_version: one.spec_id for one in store.read_document(choice, ModelChoice).scored}
    applied = store.read_document(calibration, Calibration).specs[spec_of[prediction.model_version]]
    return (
        f"calibrated by intercept {applied.intercept:+.4f}, slope {applied.slope:.4f} "
        f"({applied.rows} labels of {len(applied.partitions)} partitions)"
    )


def _union(manifests: Sequence[Manifest]) -> dict[str, list[ArtifactRef]]:
    groups: dict[str, list[ArtifactRef]] = {}
    for manifest in manifests:
        for name, refs in manifest.inputs.items():
            groups.setdefault(name, []).extend(refs)
    return groups


def _artifacts_and_files(refs: Sequence[ArtifactRef]) -> list[list[ArtifactRef]]:
    """The refs to artifacts and those to landed files, each if any: a feed may change from one to the other."""
    parts = [[ref for ref in refs if ref.uri.endswith("/") == artifacts] for artifacts in (True, False)]
    return [part for part in parts if part]


def _distinct(refs: Sequence[ArtifactRef]) -> list[ArtifactRef]:
    return sorted({(ref.uri, ref.sha256): ref for ref in refs}.values(), key=lambda ref: ref.uri)


def _label(manifest: Manifest) -> str:
    return f"{manifest.partition} {manifest.variant}".strip()


def _rows(refs: Sequence[ArtifactRef]) -> str:
    rows = sum(ref.rows for ref in refs)
    return f"  {rows:,} rows" if rows else ""


def _short(digest: str) -> str:
    return digest[:SHOWN_DIGITS]


def landed_rows(use_case: UseCase, store: ArtifactStore, prediction: Prediction) -> list[str]:
    """The landed file and row of each curated row with the prediction's key that went into the scores."""
    inputs = [
        ref
        for refs in store.manifest(prediction.publication.scores).inputs.values()
        for ref in refs
        if ref.uri.endswith("/")
    ]
    lines = []
    for ref in inputs:
        for feed in use_case.feed_names:
            path = f"{feed}.parquet"
            if not any(entry.path == path for entry in store.manifest(ref).files):
                continue
            table = store.read_table(ref, path)
            if not {*use_case.key_columns, *LINEAGE} <= set(table.column_names):
                continue
            for name in use_case.key_columns:
                value = pa.scalar(prediction.columns[name], table.schema.field(name).type)
                table = table.filter(pc.equal(table[name], value))
            lines += [f"landed as {feed}: {m[LANDED_URI]} row {m[LANDED_ROW]}" for m in table.to_pylist()]
    return lines
