"""Choose the specs to fit in the training of a partition: those that are scored, and the declared fallback.

Artifact (variant: the spec id): `spec.json`; its role is in the parameters.
"""

from __future__ import annotations

import logging

from nightshift.artifact import ArtifactRef
from nightshift.core.lifecycle.specs import specs_to_fit
from nightshift.services.night_before import undecided_before
from nightshift.steps.context import StepContext

log = logging.getLogger(__name__)


def run(context: StepContext, *, allow_undecided: bool = False) -> list[ArtifactRef]:
    """Commit each spec; returns one ref per spec.

    Raises PartitionNotReady if the review of the partition before is undecided and `allow_undecided` is False,
    ConfigurationError if a deployed spec is not on record.
    """
    use_case, partition = context.use_case, context.partition
    warehouse = context.warehouse
    undecided_before(partition, ("advance",), use_case, context.store, warehouse, allow_undecided=allow_undecided)
    chosen = specs_to_fit(warehouse.state_as_of(partition), use_case)
    log.info("%s %s: to fit are %s", use_case.name, partition, {spec.spec_id: role for spec, role in chosen})
    return [
        context.commit(
            "choose_specs",
            variant=spec.spec_id,
            kind="model_spec",
            files=spec.to_files(),
            parameters={"role": role},
        )
        for spec, role in chosen
    ]
