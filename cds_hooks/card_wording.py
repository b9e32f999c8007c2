"""From a prediction and its explanation to the words of a card.

Clinical rules: a number is shown only when the model stands by it, never beside an
abstention; what was missing is said on every card and never filled in; nothing directs
("consider" at most, and here not even that); the mark is "warning" at most, and only at
or above the model's decision threshold. Words from the EHR or the model are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cds_hooks.card import (
    MAX_SUMMARY,
    Card,
    Coding,
    Indicator,
    Link,
    LinkType,
    Source,
)
from cds_hooks.card_lines import (
    contribution_lines,
    contributions,
    estimate_line,
    evidence_line,
    figures,
    joined,
    missing_lines,
    model_line,
    received_lines,
    states_of,
    warning_lines,
)
from cds_hooks.markdown_text import escaped, plain
from cds_hooks.plain_words import ABSTENTION, FAILURE, REASON, STEP, words
from fhir_adapters.patient_record import PatientRecord
from model.jobs.explanation import Explanation
from model.jobs.prediction import LabelEstimate, ModelIdentity, Prediction

EXTENSION = "dev.trivium.assessment"
READY, NOT_READY, COULD_NOT_ASSESS = "ready", "not-ready", "could-not-assess"
HL7_REASONS = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
# K8: codes and displays of HL7's code system, from the CDS Hooks 3.0 ballot.
OVERRIDE_REASONS = tuple(
    Coding(code, HL7_REASONS, display)
    for code, display in (
        ("cds-not-applicable", "PC CDS does not apply to patient"),
        ("cds-suboptimal-context", "PC CDS delivered in suboptimal context"),
        (
            "recipient-disagrees-evidence",
            "Recipient disagrees with recommendation because of issues with "
            "the evidence",
        ),
        (
            "recipient-concerns-outcomes",
            "Recipient has concerns regarding potential health outcomes",
        ),
        (
            "does-not-align-preferences",
            "Recommendation does not align with patient preferences or values",
        ),
    )
)
SAYS_NOTHING = "This says nothing about the patient's risk."


@dataclass(frozen=True, slots=True)
class Frame:
    """What every card of one assessment shares.

    ``assessment_id`` is opaque: the job's id, or the gathering's before there is a job.
    """

    public_url: str
    model: ModelIdentity
    assessment_id: str = ""
    job_id: str = ""

    def source(self) -> Source:
        """K4: the model card is about the model, never about a patient."""
        return Source(label="Trivium", url=f"{self.public_url}/model-card")

    def links(self) -> tuple[Link, ...]:
        """The evidence page; none when there is nothing it could show."""
        if not self.assessment_id:
            return ()
        return (
            Link(
                label="Open the evidence",
                url=f"{self.public_url}/smart/launch",
                type=LinkType.SMART,
                app_context=self.assessment_id,
            ),
        )


def ready_card(
    frame: Frame,
    prediction: Prediction,
    explanation: Explanation | None,
    record: PatientRecord,
) -> Card:
    """The full card; an abstention becomes a "could not assess" card without number."""
    if prediction.abstentions or not prediction.estimates:
        codes = [abstention.code for abstention in prediction.abstentions]
        return could_not_assess_card(
            frame, codes or ["no_modality"], record=record, prediction=prediction
        )
    lead = leading_estimate(prediction.estimates)
    detail = [
        *(f"- {estimate_line(e)}" for e in prediction.estimates),
        *warning_lines(prediction),
        *contribution_lines(explanation, prediction),
        *(
            f"- {escaped(s.text)}"
            for s in (explanation.narrative if explanation else ())
        ),
        *missing_lines(prediction.states, record),
        evidence_line(record),
        model_line(prediction.model),
    ]
    return Card(
        summary=_summary(lead),
        indicator=Indicator.WARNING if lead.positive else Indicator.INFO,
        source=frame.source(),
        detail=joined(detail),
        links=frame.links(),
        override_reasons=OVERRIDE_REASONS,
        extension=_extension(frame, READY, prediction, explanation, record),
    )


def not_ready_card(
    frame: Frame, waiting_for: Sequence[str], record: PatientRecord | None
) -> Card:
    """L4: late is said aloud, without a number and without a colour of risk."""
    steps = ", ".join(words(step, STEP) for step in waiting_for) or "the model"
    detail = [
        f"The assessment is running. It is waiting for: {escaped(steps)}.",
        f"{SAYS_NOTHING} The next call and the evidence page show the result.",
        *(received_lines(record) if record else ()),
        model_line(frame.model),
    ]
    return Card(
        summary="Trivium: the estimate is not ready yet; this says nothing about risk",
        indicator=Indicator.INFO,
        source=frame.source(),
        detail=joined(detail),
        links=frame.links(),
        override_reasons=OVERRIDE_REASONS,
        extension=_extension(frame, NOT_READY, None, None, record),
    )


def could_not_assess_card(
    frame: Frame,
    codes: Sequence[str],
    *,
    record: PatientRecord | None = None,
    prediction: Prediction | None = None,
) -> Card:
    """A failure or an abstention, said as such: the reason's class and no number."""
    reasons = [words(code, ABSTENTION, FAILURE, REASON) for code in codes]
    states = prediction.states if prediction else states_of(record)
    detail = [
        "There is no estimate, because:",
        *(f"- {escaped(reason)}" for reason in reasons),
        SAYS_NOTHING,
        *(missing_lines(states, record) if record else ()),
        *([evidence_line(record)] if record else ()),
        model_line(prediction.model if prediction else frame.model),
    ]
    return Card(
        summary=plain(f"Trivium could not assess: {reasons[0]}", MAX_SUMMARY),
        indicator=Indicator.INFO,
        source=frame.source(),
        detail=joined(detail),
        links=frame.links(),
        override_reasons=OVERRIDE_REASONS,
        extension=_extension(frame, COULD_NOT_ASSESS, prediction, None, record),
    )


def leading_estimate(estimates: Iterable[LabelEstimate]) -> LabelEstimate:
    """The estimate furthest above its threshold, or nearest below it."""
    return max(estimates, key=lambda e: e.probability - e.threshold)


def _summary(lead: LabelEstimate) -> str:
    probability, threshold = figures(lead)
    end = f": estimated probability {probability} (decision threshold {threshold})"
    return plain(lead.display, MAX_SUMMARY - len(end)) + end


def _extension(
    frame: Frame,
    state: str,
    prediction: Prediction | None,
    explanation: Explanation | None,
    record: PatientRecord | None,
) -> dict[str, dict[str, Any]]:
    """K13: one object under a reverse-domain key; the receipt is added last."""
    model = prediction.model if prediction else frame.model
    presence = (
        {m.value: there for m, there in record.presence().items()} if record else {}
    )
    # A refusal carries no number, for programs either.
    estimates = prediction.estimates if prediction and state == READY else ()
    return {
        EXTENSION: {
            "state": state,
            "estimates": [
                {
                    "label": estimate.label,
                    "probability": round(estimate.probability, 4),
                    "threshold": estimate.threshold,
                }
                for estimate in estimates
            ],
            "predictionId": prediction.prediction_id if prediction else None,
            "jobId": frame.job_id,
            "model": {
                "name": model.name,
                "version": model.version,
                "sha256": model.sha256,
            },
            "device": prediction.device if prediction else None,
            "presence": prediction.presence if prediction else presence,
            "contributions": contributions(explanation) if explanation else None,
        }
    }
