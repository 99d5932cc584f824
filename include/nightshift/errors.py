"""Every error Nightshift raises on purpose.

Terminal errors will not go away by trying again: data, code or a person has to change.
Transient errors may: the same call, later, can succeed. Only the orchestrator turns the one
kind into a failed task and the other into a retry.

Each message says what was wrong, where (uri, partition, column, up to five examples) and
what to do next.
"""

from __future__ import annotations


class NightshiftError(Exception):
    """Base of all errors raised on purpose."""


class TerminalError(NightshiftError):
    """Trying again gives the same answer."""


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


class PartitionRejected(TerminalError):
    """The partition was examined and refused; it stays refused until it is delivered anew."""


class ArtifactCorrupt(TerminalError):
    """Bytes in the object store do not have the hash their manifest states."""


class FeatureContractError(TerminalError):
    """Computed features do not match the feature view's declaration."""


class ChampionChanged(TerminalError):
    """A model was judged against a champion that is no longer the champion."""


class NotApplicable(TerminalError):
    """A compression technique does not apply to this model."""


class AuditFailed(TerminalError):
    """Predictions failed their audit and were not published."""


class UnknownModel(TerminalError):
    """No model is deployed, or a named one does not exist."""


class UnknownUseCase(TerminalError):
    """A use case was named that is not registered."""


class LookAhead(TerminalError):
    """A score, a label or a feature of the past would rest on what became known later."""


class StoreUnavailable(TransientError):
    """The object store did not answer."""


class WarehouseUnavailable(TransientError):
    """The warehouse did not answer, or a lock was not to be had in time."""


class TrackingUnavailable(TransientError):
    """The experiment tracker did not answer."""


class PartitionNotReady(TransientError):
    """An earlier or the same partition of something needed has not been decided yet."""
