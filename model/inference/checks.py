"""Doubts about an estimate, and which detectors looked for them.

A detector needs its statistic from the checkpoint. An older checkpoint lacks some, and
silence would read as "nothing found", so each result says "not checked" by name.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from fhir_adapters.patient_record import Modality
from model.inference.calibration import Calibration, pattern_name
from model.inference.case import Case
from model.jobs.prediction import Abstention, LabelEstimate
from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import MODALITIES

Presence = tuple[bool, bool, bool]

PASSED, RAISED, NOT_CHECKED = "passed", "raised", "not checked"


def detectors(case: Case, calibration: Calibration) -> dict[str, bool]:
    """Detectors that concern this case, and whether the checkpoint can run them."""
    received, known = case.received, calibration.references
    able: dict[str, bool] = {}
    if received.images:
        able |= {"blank_image": True, "wrong_body_part": True}
        able |= dict.fromkeys(
            ("inverted_image", "noise_image"), bool(calibration.films)
        )
        able["ood_image"] = Modality.IMAGE.value in known
    if received.notes:
        able["foreign_text"] = case.watched
        able["ood_text"] = Modality.TEXT.value in known
    if received.values:
        able |= {"impossible_value": True, "doubtful_unit": case.watched}
        able["ood_labs"] = Modality.VALUES.value in known
    if any(case.presence):
        able["stale_data"] = True
        pattern = pattern_name(case.presence)
        able["conformal_ambiguous"] = bool(calibration.conformal.get(pattern))
    if sum(case.presence) > 1:
        able["modality_conflict"] = True
    return able


def checks_of(
    case: Case, calibration: Calibration, found: Iterable[Abstention]
) -> dict[str, str]:
    """Each detector by its code: "passed", "raised" or "not checked".

    Args:
        case: As received and as used.
        calibration: Of the checkpoint, with or without each statistic.
        found: Abstentions and warnings of this case.
    """
    raised = {item.code for item in found}
    raised |= {skip.reason for skip in case.record.skipped}
    raised |= {state.reason for state in case.states.values()}
    return {
        code: RAISED if code in raised else PASSED if able else NOT_CHECKED
        for code, able in detectors(case, calibration).items()
    }


def each_alone(
    model: TriModalModel, calibration: Calibration, tokens: Tokens, presence: Presence
) -> dict[str, dict[str, float]]:
    """What each present modality says of each label on its own, calibrated.

    Each as a presence pattern of its own, because that is what the calibration was
    fitted for; the auxiliary heads have none.

    Args:
        model: In evaluation mode; gradients are not needed.
        calibration: Of the checkpoint.
        tokens: Of one record (B = 1).
        presence: What the record holds.

    Returns:
        Probability by label and modality; empty with fewer than two modalities.
    """
    there = [m for m, present in enumerate(presence) if present]
    if len(there) < 2:
        return {}
    patterns = [[m == one for m in range(3)] for one in there]
    used = torch.tensor(patterns, device=tokens.image.device)  # (R, 3)
    logits = model.fuse(tokens.repeat(len(there)), used).logits  # (R, C)
    rows = logits.double().tolist()
    return {
        label: {
            MODALITIES[m]: calibration.of(pattern, label).probability(row[c])
            for m, pattern, row in zip(there, patterns, rows)
        }
        for c, label in enumerate(model.config.labels)
    }


def ambiguous_labels(
    calibration: Calibration, presence: Presence, estimates: Iterable[LabelEstimate]
) -> list[str]:
    """Labels whose conformal set holds both outcomes."""
    found = []
    for estimate in estimates:
        limits = calibration.conformal_of(presence, estimate.label)
        if limits and limits.ambiguous(estimate.probability):
            found.append(estimate.label)
    return found
