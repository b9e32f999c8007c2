"""The lines of a card's detail, each a small function from evidence to words.

Markdown is made here and nowhere else: every word that we did not write ourselves goes
through :func:`.markdown_text.escaped` on its way into a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cds_hooks.markdown_text import escaped
from cds_hooks.plain_words import ABSTENTION, MODALITY, REASON, words
from fhir_adapters.patient_record import Modality, ModalityStatus, PatientRecord
from model.jobs.explanation import Explanation
from model.jobs.prediction import LabelEstimate, ModelIdentity, Prediction

STATUS_WORDS = "Investigational; not cleared; informs, does not direct."


def contributions(explanation: Explanation) -> dict[str, float]:
    """Each modality's share of the absolute contributions; they add up to 1.

    All are 0 when no modality moved the estimate.
    """
    size = {share.modality: abs(share.logit) for share in explanation.modalities}
    total = sum(size.values())
    return {
        modality.value: (
            round(size.get(modality.value, 0.0) / total, 4) if total else 0.0
        )
        for modality in Modality
    }


def percent(value: float, digits: int = 0) -> str:
    """A probability in words that do not promise certainty: never 0 % nor 100 %."""
    if value < 0.01:
        return "under 1 %"
    if value > 0.99:
        return "over 99 %"
    return f"{value * 100:.{digits}f} %"


def figures(estimate: LabelEstimate) -> tuple[str, str]:
    """Probability and threshold, with a decimal where whole numbers would agree."""
    shown = percent(estimate.probability), percent(estimate.threshold)
    if shown[0] == shown[1] and estimate.probability != estimate.threshold:
        return percent(estimate.probability, 1), percent(estimate.threshold, 1)
    return shown


def estimate_line(estimate: LabelEstimate) -> str:
    """One estimate with its threshold."""
    probability, threshold = figures(estimate)
    side = "at or above" if estimate.positive else "below"
    return (
        f"**{escaped(estimate.display, 120)}**: estimated probability {probability}, "
        f"{side} the decision threshold of {threshold}"
    )


def warning_lines(prediction: Prediction) -> list[str]:
    """What speaks against leaning on the estimate, one line each."""
    reasons = [words(w.code, ABSTENTION, REASON) for w in prediction.warnings]
    return [f"- Caution: {escaped(reason)}" for reason in dict.fromkeys(reasons)]


def contribution_lines(
    explanation: Explanation | None, prediction: Prediction
) -> list[str]:
    """Each modality's share and direction, or that there is no explanation."""
    if explanation is None:
        return ["- Contributions: no explanation could be computed"]
    sign = {share.modality: share.logit for share in explanation.modalities}
    parts = []
    for name, share in contributions(explanation).items():
        if not prediction.presence.get(name):
            parts.append(f"{name} not available")
            continue
        way = "raises" if sign.get(name, 0.0) > 0 else "lowers"
        parts.append(f"{name} {share * 100:.0f} %" + (f" ({way} it)" if share else ""))
    shown = ", ".join(parts)
    label = next(
        (e.display for e in prediction.estimates if e.label == explanation.label),
        explanation.label,
    )
    return [f"- Contributions to the estimate of {escaped(label, 120)}: {shown}"]


def states_of(record: PatientRecord | None) -> dict[str, str]:
    """Status and reason of each modality, as a prediction words them."""
    if record is None:
        return {}
    return {
        modality.value: (
            f"{state.status}: {state.reason}" if state.reason else str(state.status)
        )
        for modality, state in record.states.items()
    }


def missing_lines(states: Mapping[str, str], record: PatientRecord) -> list[str]:
    """Each absent or unreadable modality with its reason, then skips by reason."""
    lines = []
    for modality in Modality:
        status, _, reason = states.get(modality.value, "").partition(":")
        if status and status != ModalityStatus.PRESENT:
            why = words(reason.strip(), REASON) or "no reason given"
            lines.append(
                f"- Missing: {MODALITY[modality.value]} ({escaped(status, 40)}): "
                f"{escaped(why)}. Nothing was filled in for it"
            )
    counts = record.skip_counts()
    if counts:
        by_reason = ", ".join(
            f"{count} x {escaped(words(code, REASON), 80)}"
            for code, count in counts.items()
        )
        lines.append(f"- Received and not used: {by_reason}")
    return lines or ["- Missing: nothing"]


def received_lines(record: PatientRecord) -> list[str]:
    """Before there is a result: what has come in, and what is missing."""
    present = [
        MODALITY[modality.value].lower()
        for modality, there in record.presence().items()
        if there
    ]
    received = ", ".join(present) or "nothing usable"
    return [f"- Received: {received}", *missing_lines(states_of(record), record)]


def evidence_line(record: PatientRecord) -> str:
    """Up to when evidence was looked at."""
    return f"Evidence up to {record.cutoff:%Y-%m-%d %H:%M} {record.cutoff.tzname()}."


def model_line(model: ModelIdentity) -> str:
    """K4: which model, what it learnt from, how well it did, what it is not."""
    validated = model.validation
    figures = "not validated"
    if validated is not None:
        figures = (
            f"{escaped(validated.metric, 40)} {validated.value:.2f} "
            f"(95 % interval {validated.low:.2f} to {validated.high:.2f}, "
            f"n = {validated.n}, {escaped(validated.method, 200)})"
        )
    return (
        f"Model {escaped(model.name, 80)} {escaped(model.version, 40)}, trained on "
        f"{escaped(model.trained_on, 200)}; {figures}. {STATUS_WORDS}"
    )


def joined(lines: Sequence[str]) -> str:
    """Paragraphs, with list items kept together."""
    text = lines[0]
    for before, line in zip(lines, lines[1:], strict=False):
        together = before.startswith("- ") and line.startswith("- ")
        text += ("\n" if together else "\n\n") + line
    return text
