"""The faults: one table. Each makes a plan for a night that is run again from the same state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chaos.effects import Action, Request
from chaos.plans import Abreast, FailsInTheMiddle, KilledAroundEachEffect, Once, Slow, Undisturbed
from chaos.services import Services

MakePlan = Callable[[Services, Mapping[str, Mapping[str, int]]], Undisturbed]

SLOW_SECONDS = 0.2
ABREAST_SECONDS = 0.5


@dataclass(frozen=True)
class Fault:
    """A fault. `plan(services, writes)` makes its plan; `writes` are the counts of `plans.Counting`.

    `at_once`: how many attempts at each step are started side by side.
    """

    name: str
    happens: str
    plan: MakePlan
    at_once: int = 1


def _to(service: str, *, writes: bool = False) -> Callable[[Request], bool]:
    return lambda request: request.service == service and (request.writes or not writes)


def _is_statement(request: Request) -> bool:
    """Whether a request is a statement that writes. Rows of a COPY have been accepted when their end is sent."""
    return request.service == "warehouse" and request.writes and not request.text.startswith("end of ")


def _fails(service: str, fail: str, restore: str) -> MakePlan:
    return lambda services, writes: FailsInTheMiddle(
        service, writes.get(service, {}), getattr(services, fail), getattr(services, restore)
    )


FAULTS = (
    Fault(
        "killed",
        "SIGKILL of a step before, inside and after each request that writes",
        lambda services, writes: KilledAroundEachEffect(),
    ),
    Fault(
        "twice",
        "two runs of each step at once, brought abreast before each write",
        lambda services, writes: Abreast(ABREAST_SECONDS),
        at_once=2,
    ),
    Fault(
        "store-error",
        "503 in place of each request to the store",
        lambda services, writes: Once(_to("store"), Action.ERROR),
    ),
    Fault(
        "store-late-error",
        "500 for each write that the store has done",
        lambda services, writes: Once(_to("store", writes=True), Action.LATE_ERROR),
    ),
    Fault(
        "store-cut",
        "each request to the store cut in half, then each answer of it",
        lambda services, writes: Once(_to("store"), Action.CUT, Action.CUT_ANSWER),
    ),
    Fault(
        "store-stopped", "the store killed in the middle of each step", _fails("store", "crash_store", "restart_store")
    ),
    Fault(
        "store-full",
        "no file of the store can grow, from the middle of each step on",
        _fails("store", "fill_store", "free_store"),
    ),
    Fault(
        "store-slow",
        f"each request to the store {SLOW_SECONDS} s late",
        lambda services, writes: Slow(_to("store"), SLOW_SECONDS),
    ),
    Fault(
        "warehouse-cut",
        "the connection closed before, inside and after each statement that writes",
        lambda services, writes: Once(_to("warehouse", writes=True), Action.DROP, Action.CUT, Action.LOSE),
    ),
    Fault(
        "warehouse-disk-full",
        "disk full (53100, from the proxy) in place of each statement that writes",
        lambda services, writes: Once(_is_statement, Action.ERROR),
    ),
    Fault(
        "warehouse-stopped",
        "the warehouse crashed in the middle of each step",
        _fails("warehouse", "crash_warehouse", "start_warehouse"),
    ),
    Fault(
        "warehouse-slow",
        f"each request to the warehouse {SLOW_SECONDS} s late",
        lambda services, writes: Slow(_to("warehouse"), SLOW_SECONDS),
    ),
)
"""Of store and warehouse: of every scene."""

MLFLOW_FAULTS = (
    Fault(
        "mlflow-error",
        "503 in place of each request to MLflow",
        lambda services, writes: Once(_to("mlflow"), Action.ERROR),
    ),
    Fault(
        "mlflow-late-error",
        "500 for each request that MLflow has done",
        lambda services, writes: Once(_to("mlflow"), Action.LATE_ERROR),
    ),
    Fault(
        "mlflow-cut",
        "each request to MLflow cut in half, then each answer of it",
        lambda services, writes: Once(_to("mlflow"), Action.CUT, Action.CUT_ANSWER),
    ),
    Fault(
        "mlflow-stopped",
        "MLflow killed in the middle of each step",
        _fails("mlflow", "crash_mlflow", "restart_mlflow"),
    ),
)
"""Of a scene that trains."""
