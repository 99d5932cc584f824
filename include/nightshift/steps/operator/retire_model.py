"""Retire a spec, or one version, permanently, and archive its records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from nightshift.artifact import ArtifactRef, sha256_hex
from nightshift.core.lifecycle.state import State, Version, state_as_of
from nightshift.declare.use_case import UseCase
from nightshift.deployment import Deployment
from nightshift.errors import ConfigurationError, UnknownModel
from nightshift.services.manual_decisions import check_in_reach, make_known, stated
from nightshift.services.model_archive import archive_key, archive_model
from nightshift.steps.context import StepContext


def run(context: StepContext, *, spec_or_version: str, reason: str, decided_by: str) -> ArtifactRef:
    """Write `archive/<use case>/<spec or version>.zip`, then record `retired`; commit `retirement.json`.

    `spec_or_version`: a spec id or a version. The archive, of the version or the spec's newest one, is written before
    the decision. Retiring a challenger withdraws it. Raises UnknownModel if neither a spec nor a
    version of that name has a model, and ConfigurationError if it is the champion, the watched former champion, the
    fallback or the only version of one of them, as of `partition` or by later decisions; or if the partition
    is later than the newest published one.
    """
    use_case, settings, store, partition = context.use_case, context.settings, context.store, context.partition
    name = spec_or_version
    warehouse = context.warehouse
    check_in_reach(use_case, warehouse, partition)
    decisions = warehouse.decisions()
    now, later = (state_as_of(decisions, day) for day in (partition + timedelta(days=1), date.max))
    version = _version(use_case, later, name)
    for state in (now, later):
        _check_unused(use_case, state, name)
    about = [d for d in decisions if name in (d.spec_id, d.model_version) and d.action != "retired"]
    key = archive_key(use_case, name)
    body = archive_model(store, warehouse, version, about)
    store.put(key, body, content_type="application/zip")
    archive = {"archive": store.uri(key), "archive_sha256": sha256_hex(body)}
    changed = False
    if name not in now.retired:
        changed = warehouse.record_deployment(
            Deployment(
                partition=partition,
                action="retired",
                role=about[-1].role,
                spec_id=version.spec_id,
                model_version=name if name == version.model_version else "",
                model=version.model,
                reason=stated(reason) | archive,
                decided_by=decided_by,
            ),
            expected_champion=now.champion,
        )
    return make_known(
        use_case, settings, store, warehouse, partition,
        f"{name} is retired after partition {partition} and kept in {archive['archive']}",
        changed=changed,
        result={"name": name, "spec_id": version.spec_id, **archive, "reason": reason, "decided_by": decided_by},
        step="retire_model",
        kind="retirement",
        inputs={"model": [version.model]},
        parameters={"spec_or_version": name},
        metrics={"archive_bytes": len(body)},
        variant=name,
    )  # fmt: skip


def _version(use_case: UseCase, state: State, name: str) -> Version:
    """The version of that name, or the newest one of the spec."""
    versions = [version for of_spec in state.versions.values() for version in of_spec]
    matches = [version for version in versions if name in (version.spec_id, version.model_version)]
    if not matches:
        names = sorted(state.versions) + [version.model_version for version in versions[-5:]]
        raise UnknownModel(
            "NS-DEPLOY-009",
            f"{use_case.name} has no spec or version {name!r}; specs and the newest versions are "
            f"{', '.join(names) or 'none'}. All of them are in `deployments`.",
        )
    return matches[-1]


def _check_unused(use_case: UseCase, state: State, name: str) -> None:
    """Raise ConfigurationError if the champion, the watched former champion or the fallback would have no version."""
    roles: Sequence[tuple[str, str | None]] = (
        ("the champion; roll back to another spec first", state.champion),
        ("the fallback, which must stay available", state.fallback),
        ("watched as the former champion; wait until the champion is confirmed", state.watched),
    )
    for role, spec_id in roles:
        version = state.version(spec_id)
        if name == spec_id:
            raise ConfigurationError("NS-DEPLOY-010", f"{use_case.name}: {name} cannot be retired: it is {role}.")
        left = [one for one in state.versions.get(spec_id or "", ()) if one.model_version not in {*state.retired, name}]
        if version is not None and version.model_version == name and not left:
            raise ConfigurationError(
                "NS-DEPLOY-011", f"{use_case.name}: {name} cannot be retired: it is the only version of {role}."
            )
