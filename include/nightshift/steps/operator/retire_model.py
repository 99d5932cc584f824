"""Take a model out of use for good, and archive everything that is known about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from nightshift.artifact import ArtifactRef, canonical_json, sha256_hex
from nightshift.core.model_life import Life, life_as_of
from nightshift.deployment import Deployment
from nightshift.errors import ConfigurationError, UnknownModel
from nightshift.io.artifact_store import ArtifactStore
from nightshift.io.by_hand import make_known, stated
from nightshift.io.model_archive import archive_key, archive_model
from nightshift.io.warehouse import Warehouse
from nightshift.settings import Settings
from nightshift.usecase import UseCase


def run(
    use_case: UseCase,
    settings: Settings,
    store: ArtifactStore,
    partition: date,
    *,
    model_version: str,
    reason: str,
    decided_by: str,
) -> ArtifactRef:
    """Write `archive/<use case>/<model_version>.zip`, then record `retired`; commit `retirement.json`.

    The archive is written first: a model is not retired before it is kept. A model on trial is
    withdrawn by it. Raises UnknownModel if no model of that version is known, and ConfigurationError
    if it is champion, stands by or is the fallback, as of `partition` or by what was decided since.
    """
    warehouse = Warehouse(settings, use_case)
    decisions = warehouse.decisions()
    about = [made for made in decisions if made.model_version == model_version and made.action != "retired"]
    model = next((made.model for made in reversed(about) if made.model is not None), None)
    if model is None:
        known = list(dict.fromkeys(made.model_version for made in decisions if made.model is not None))
        raise UnknownModel(
            f"{use_case.name} knows no model {model_version!r}; the newest are {', '.join(known[-5:]) or 'none'}. "
            "All of them are in `deployments`."
        )
    now, later = (life_as_of(decisions, day) for day in (partition + timedelta(days=1), date.max))
    _refuse_in_use(use_case, model_version, [now, later])
    key = archive_key(use_case, model_version)
    body = archive_model(store, warehouse, model, about)
    store.put(key, body, content_type="application/zip")
    changed = False
    if model_version not in now.retired:
        changed = warehouse.record_deployment(
            Deployment(
                partition=partition,
                action="retired",
                role=about[-1].role,
                model_version=model_version,
                model=model,
                reason=stated(reason) | {"archive": store.uri(key), "archive_sha256": sha256_hex(body)},
                decided_by=decided_by,
            ),
            expected_champion=now.champion.model_version if now.champion else None,
        )
    message = (
        f"{use_case.name}: {model_version} is retired after partition {partition} and kept in {store.uri(key)}. "
        f"Decided by {decided_by}: {reason}"
    )
    make_known(settings, use_case, warehouse, message, changed=changed)
    result = {
        "model_version": model_version,
        "archive": store.uri(key),
        "archive_sha256": sha256_hex(body),
        "reason": reason,
        "decided_by": decided_by,
        "message": message,
    }
    return store.commit(
        use_case=use_case.name,
        step="retire_model",
        partition=partition,
        kind="retirement",
        files={"retirement.json": canonical_json(result)},
        inputs={"model": [model]},
        parameters={"model_version": model_version},
        metrics={"changed": changed, "archive_bytes": len(body)},
        variant=model_version,
    )


def _refuse_in_use(use_case: UseCase, model_version: str, lives: Sequence[Life]) -> None:
    for life in lives:
        uses = {
            "is the champion; roll back to another one first": life.champion,
            "is the fallback, which everyone falls back to": life.fallback,
            "stands by while the fresh champion is watched; wait until that is confirmed": life.trial.deployment
            if life.trial is not None and life.trial.stage == "standby"
            else None,
        }
        for use, model in uses.items():
            if model is not None and model.model_version == model_version:
                raise ConfigurationError(f"{use_case.name}: {model_version} cannot be retired: it {use}.")
