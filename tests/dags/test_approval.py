"""Approve, reject and silence: what Airflow's operator makes of each, and what is recorded of it."""

import uuid
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from nightshift.documents.promote import Advance

ADVANCED = {"uri": "s3://bucket/late/promote/advance/2020-03-15/0/", "sha256": "0" * 64, "kind": "advance"}
ANNA = {"id": "7", "name": "anna"}


@pytest.fixture(scope="module")
def approval(dag_bag):
    from dagkit import approval

    return approval


@pytest.fixture(scope="module")
def promote(dag_bag):
    return dag_bag.dags["flight_delay.promote"]


@pytest.fixture
def approve(promote):
    return promote.get_task("approve")


def resumed(approve, chosen, user, *, timedout=False):
    """The operator's result when Airflow resumes it with this answer, as it comes back from XCom."""
    from airflow.models.hitl import HITLDetail
    from airflow.sdk.serde import deserialize, serialize

    detail = HITLDetail(
        ti_id=uuid.uuid4(),
        options=list(approve.options),
        defaults=list(approve.defaults),
        chosen_options=chosen,
        params_input={},
        responded_by=user,
        responded_at=datetime(2020, 3, 16, 9, tzinfo=UTC),
    )
    event = detail.as_resume_event_payload(timedout=timedout)
    return deserialize(serialize(approve.execute_complete({}, deserialize(serialize(event)))))


def test_approval(approval, approve):
    response = resumed(approve, ["Approve"], ANNA)
    assert approval.approval_arguments({"advanced": ADVANCED, "response": response}) == {
        "advanced": ADVANCED,
        "answer": "approved",
        "decided_by": "hand:anna",
    }


def test_rejection_ends_green_and_skips_nothing(approval, approve, monkeypatch):
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    # ApprovalOperator would skip record_approval, and nobody would know of the rejection.
    assert not isinstance(approve, ApprovalOperator)
    assert not hasattr(approve, "skip")
    response = resumed(approve, ["Reject"], ANNA)
    assert approval.approval_arguments({"advanced": ADVANCED, "response": response})["answer"] == "declined"
    assert approval.approval_arguments({"advanced": ADVANCED, "response": response})["decided_by"] == "hand:anna"


def test_unanswered_approval_counts_as_declined(approval, approve):
    # What the scheduler does when the time is up: it takes the default, and nobody responded.
    assert approve.defaults == ["Reject"]
    response = resumed(approve, approve.defaults, None, timedout=True)
    assert approval.approval_arguments({"advanced": ADVANCED, "response": response}) == {
        "advanced": ADVANCED,
        "answer": "timed_out",
        "decided_by": "",
    }


def test_person_without_a_name_is_recorded_by_id(approval, approve):
    response = resumed(approve, ["Approve"], {"id": "7", "name": ""})
    assert approval.approval_arguments({"response": response})["decided_by"] == "hand:7"


def test_approval_operator_defers_until_its_timeout(approve, monkeypatch):
    from airflow.sdk.exceptions import TaskAwaitingInput

    asked = {}
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **what: asked.update(what)
    )
    with pytest.raises(TaskAwaitingInput) as waiting:
        approve.execute({"task_instance": SimpleNamespace(id=uuid.uuid4())})
    assert waiting.value.timeout == approve.response_timeout == timedelta(hours=24)
    assert asked["options"] == ["Approve", "Reject"]
    assert asked["defaults"] == ["Reject"]
    assert not asked["assigned_users"], "flight_delay names no approvers: whoever may edit the DAG's runs"


def test_the_run_outlives_the_time_to_answer(promote, approve):
    assert promote.dagrun_timeout > approve.response_timeout


def test_the_person_reads_the_evidence(approve):
    from airflow.sdk.definitions._internal.templater import NativeEnvironment

    assert {"subject", "body"} <= set(approve.template_fields)
    pulled = []
    ti = SimpleNamespace(xcom_pull=lambda task_ids: pulled.append(task_ids) or "**evidence**")
    assert NativeEnvironment().from_string(approve.body).render(ti=ti) == "**evidence**"
    assert pulled == ["approval_needed"]
    subject = (
        NativeEnvironment().from_string(approve.subject).render(dag_run=SimpleNamespace(partition_key="2013-06-01"))
    )
    assert subject.endswith("champion after 2013-06-01?")


@pytest.mark.parametrize(("needed", "evidence"), [(True, "better by 0.01"), (False, "")])
def test_approval_is_skipped_unless_needed(approval, monkeypatch, needed, evidence):
    advance = Advance(
        partition=date(2013, 6, 1),
        action="awaiting_approval",
        spec_id="blend-0123abcd",
        champion=None,
        why="better",
        approval_needed=needed,
        summary="better by 0.01",
    )
    store = SimpleNamespace(read_document=lambda ref, kind: {Advance: advance}[kind])
    monkeypatch.setattr("dagkit.steps.open_store", lambda: store)
    assert approval.evidence_for_approval(ADVANCED) == evidence


def test_tasks_after_a_skipped_approval_are_skipped(promote):
    from airflow.sdk import TriggerRule

    gate = promote.get_task("approval_needed")
    assert gate.ignore_downstream_trigger_rules
    assert {task.task_id for task in gate.get_flat_relatives(upstream=False)} == {"approve", "record_approval"}
    # Runs after each of the three answers, which are all green, and not if asking broke.
    assert promote.get_task("record_approval").trigger_rule == TriggerRule.ALL_SUCCESS
