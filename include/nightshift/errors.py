"""Every error Nightshift raises on purpose.

A terminal error recurs on a retry: data, code or configuration has to change first. After a
transient error the same call can succeed later. Only the orchestrator (dags/dagkit) turns the
first kind into a failed task and the second into a retry.

Each error has a stable code, `NS-<ROOM>-<number>`, a literal where it is raised: docs/errors.md, which `make docs`
writes, lists all of them. A new fault takes the next free number of its room. The message says what was wrong, where
(uri, partition, column, up to five examples) and what to do next.
"""

from __future__ import annotations


class NightshiftError(Exception):
    """Base of all errors raised on purpose. As text it is `code: message`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class TerminalError(NightshiftError):
    """A retry fails in the same way."""


class TransientError(NightshiftError):
    """The same call may succeed later."""


class ConfigurationError(TerminalError):
    """A setting, a tool, a port or a permission is missing or wrong."""


class DataContractError(TerminalError):
    """Delivered data breaks a critical expectation of its feed."""


class SchemaChanged(DataContractError):
    """A delivered file has missing, extra, renamed or retyped columns."""


class MalformedFile(DataContractError):
    """A delivered file is empty, half-written, or cannot be parsed."""


class NothingDelivered(DataContractError):
    """A feed was not delivered in time, or its landed files are gone."""


class UpstreamHeld(DataContractError):
    """Predictions that a feed reads were rejected, are the fallback's, or were stopped by a kill switch."""


class PartitionRejected(TerminalError):
    """The partition was checked and rejected; it stays rejected until it is delivered again."""


class ArtifactCorrupt(TerminalError):
    """Bytes in the object store do not have the hash their manifest states."""


class FeatureContractError(TerminalError):
    """Computed features do not match the feature view's declaration."""


class ChampionChanged(TerminalError):
    """A model was compared with a champion that has been replaced since."""


class NotApplicable(TerminalError):
    """A compression technique does not apply to this model."""


class Superseded(TerminalError):
    """An artifact is not the one that counts any more: another run of the partition replaced it."""


class AuditFailed(TerminalError):
    """Predictions failed their audit and were not published."""


class UnknownModel(TerminalError):
    """No model is deployed, or a named one does not exist."""


class UnknownUseCase(TerminalError):
    """A use case was named that is not registered."""


class PredictionsOverdue(TerminalError):
    """At the deadline, the predictions of a partition are not published."""


class LookAhead(TerminalError):
    """A score, a label or a feature of the past would use data that became known later."""


class StoreUnavailable(TransientError):
    """The object store did not respond."""


class WarehouseUnavailable(TransientError):
    """The warehouse did not respond, or a lock was not acquired in time."""


class TrackingUnavailable(TransientError):
    """The experiment tracker did not respond."""


class StatusChanged(TransientError):
    """The status of a partition was replaced while it was being published."""


class PartitionNotReady(TransientError):
    """An upstream partition is neither published nor rejected yet."""
