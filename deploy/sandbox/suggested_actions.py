"""Carries out the actions of an accepted suggestion in the patient's chart.

Only ``create`` and ``update`` of a resource about the patient in context are carried
out (CDS Hooks 2.0, ``#action``); anything else is refused and said so. A resource that
names another patient would otherwise be written into the wrong chart.
"""

from __future__ import annotations

import uuid
from typing import Any

from deploy.sandbox.errors import StoreError
from deploy.sandbox.store import Store, patient_of


def apply_suggestion(
    store: Store, patient_id: str, suggestion: dict[str, Any]
) -> list[str]:
    """Apply each action; one sentence for each about what happened."""
    actions = suggestion.get("actions")
    known = [a for a in actions if isinstance(a, dict)] if actions else []
    return [_apply(store, patient_id, action) for action in known]


def _apply(store: Store, patient_id: str, action: dict[str, Any]) -> str:
    resource = action.get("resource")
    if action.get("type") not in ("create", "update") or not isinstance(resource, dict):
        return "An action of this kind is not carried out by the sandbox."
    new = {**resource}
    if action["type"] == "create":
        new["id"] = str(uuid.uuid4())
    if new.get("resourceType") == "Patient" or patient_of(new) != patient_id:
        return "An action about somebody else was refused."
    try:
        stored = store.put(new)
    except StoreError:
        return "An action with a malformed resource was refused."
    return f"{stored['resourceType']} {action['type']}d in the chart."
