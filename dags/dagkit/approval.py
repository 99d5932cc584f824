"""The approval task: the evidence that it shows, and its result."""

from __future__ import annotations

from dagkit.params import XComValues
from dagkit.steps import read_document
from nightshift.documents.promote import Advance

APPROVE, REJECT = "Approve", "Reject"
"""The options of the approval task."""


def evidence_for_approval(advanced: XComValues) -> str:
    """The evidence for the approval of a spec, as Markdown; "" if no approval is needed."""
    advance = read_document(advanced, Advance)
    return advance.summary if advance.approval_needed else ""


def approval_arguments(refs: XComValues) -> XComValues:
    """Arguments of `record_approval` from the result of the approval task, which is `refs["response"]`.

    After a timeout the response is Airflow's default and names no user: the answer is timed_out, `decided_by` empty.
    """
    response = refs["response"]
    user = response["responded_by_user"]
    if user is None:
        answer, decided_by = "timed_out", ""
    else:
        answer = "approved" if response["chosen_options"] == [APPROVE] else "declined"
        decided_by = f"hand:{user['name'] or user['id']}"
    others = {name: ref for name, ref in refs.items() if name != "response"}
    return {**others, "answer": answer, "decided_by": decided_by}
