"""The audit events of one hook call, and the one way to record them.

1. INTENT is durable before patient data is read, OUTCOME before the card leaves (L10).
   Harm: a card that nobody can account for.
2. A record that cannot be made durable ends the call with 503, never with a card.
3. What identifies people or content beyond identifiers, such as the card's text, the
   estimates and a user's comment, goes into the erasable clinical envelope (B6).
4. Neither tokens nor resources are recorded; a token's issuer and ``jti`` are (J10).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from audit.errors import AuditError, EventError
from audit.event import (
    Action,
    Agent,
    AuditEvent,
    Entity,
    EventType,
    ModelRef,
    Outcome,
    Phase,
    Subject,
    new_correlation_id,
)
from audit.log import AuditLog
from audit.receipt import Receipt
from cds_hooks.access_record import Access
from cds_hooks.client_auth import Caller
from cds_hooks.errors import (
    AuditBlockedError,
    LaunchRefusedError,
    NotYoursError,
    UnauthenticatedError,
    WebError,
)
from cds_hooks.hook_request import HookRequest
from model.jobs.prediction import ModelIdentity, Prediction
from model.jobs.queue import JobView

PURPOSE = "TREAT"
NO_DEVICE = "none"
MAX_REASON = 64


def record(log: AuditLog, *events: AuditEvent) -> list[Receipt]:
    """Append ``events`` together; all are durable on return.

    Raises:
        AuditBlockedError: they are not, so nothing may be shown.
    """
    try:
        return log.append_many(events)
    except EventError:
        raise  # An event of ours that breaks the rules: a bug, not an outage.
    except AuditError as error:
        raise AuditBlockedError() from error


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``."""
    canonical = orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(canonical).hexdigest()


@dataclass(frozen=True, slots=True)
class Trail:
    """What the events of one call share: who acts, for whom, under which number."""

    agent: Agent
    subject: Subject
    correlation_id: str
    tenant: str

    @classmethod
    def of(cls, request: HookRequest, caller: Caller, network: str) -> Trail:
        """The trail of a valid request."""
        servers = caller.tenant.fhir_servers
        named = request.fhir.server if request.fhir else ""
        # Ids are unique within one FHIR server only, so the server names the system.
        system = named or (servers[0] if servers else f"urn:tenant:{caller.tenant.id}")
        return cls(
            agent=Agent("human", system, request.user, network=network or None),
            subject=Subject(system, request.patient_id),
            correlation_id=new_correlation_id(),
            tenant=caller.tenant.id,
        )

    def event(
        self,
        kind: EventType,
        phase: Phase = Phase.SINGLE,
        *,
        outcome: Outcome = Outcome.OK,
        action: Action = Action.EXECUTE,
        **more: Any,
    ) -> AuditEvent:
        """An event of this call."""
        return AuditEvent(
            event_type=kind,
            action=action,
            outcome=outcome,
            phase=phase,
            agent=self.agent,
            subject=self.subject,
            purpose=PURPOSE,
            correlation_id=self.correlation_id,
            **more,
        )

    def intent(self, request: HookRequest, caller: Caller) -> AuditEvent:
        """What is about to be read, and for whom."""
        return self.event(
            EventType.CDS_INTENT,
            Phase.INTENT,
            entities=(Entity(f"Patient/{request.patient_id}", "patient"),),
            evidence={
                "service": request.service.id,
                "hook": request.service.hook,
                "hook_instance": request.hook_instance,
                "tenant": self.tenant,
                "issuer": caller.iss,
                "jti": caller.jti,
                "encounter": request.encounter_id,
                "fhir_server": request.fhir.server if request.fhir else None,
                "scope": request.fhir.scope if request.fhir else None,
                "manifest": [template.query for template in request.service.prefetch],
                "prefetched": sorted(
                    template.key
                    for template in request.service.prefetch
                    if template.key in request.prefetch
                ),
            },
        )

    def accesses(self, made: Sequence[Access]) -> list[AuditEvent]:
        """One record for each interaction with the EHR's servers."""
        return [
            self.event(
                access.kind,
                action=(
                    Action.EXECUTE
                    if access.kind is EventType.FHIR_SEARCH
                    else Action.READ
                ),
                outcome=(Outcome.OK if 200 <= access.status < 300 else Outcome.FAILED),
                entities=(Entity(access.reference, "data", access.query or None),),
                evidence={
                    "server": access.server,
                    "status": access.status,
                    "reason": access.reason,
                },
            )
            for access in made
        ]

    def outcome(
        self,
        evidence: Mapping[str, Any],
        *,
        model: ModelIdentity,
        job: JobView | None,
        card: Mapping[str, Any],
        references: Sequence[str],
    ) -> AuditEvent:
        """What was shown, by which model, resting on what."""
        prediction = job.prediction if job else None
        explanation = job.explanation if job else None
        shown: dict[str, Any] = {
            **evidence,
            "status": 200,
            "cards": [card["uuid"]],
            "card_sha256": digest(card),
            "job": job.job_id if job else None,
        }
        clinical: dict[str, Any] = {"card": card}
        if prediction:
            shown["prediction"] = prediction.prediction_id
            shown["evidence_sha256"] = prediction.evidence_sha256
            shown["presence"] = prediction.presence
            clinical["estimates"] = prediction.to_json()["estimates"]
            clinical["abstentions"] = prediction.to_json()["abstentions"]
        if explanation:
            shown["explanation_sha256"] = digest(explanation.to_json())
        patient = Entity(f"Patient/{self.subject.value}", "patient")
        return self.event(
            EventType.CDS_OUTCOME,
            Phase.OUTCOME,
            model=model_ref(model, prediction),
            entities=(patient, *(Entity(ref, "data") for ref in references)),
            evidence=shown,
            clinical=clinical,
        )

    def failure(
        self, error: WebError, model: ModelIdentity | None = None
    ) -> AuditEvent:
        """The call ended without a card, after its intent was recorded.

        ``model`` is given where it had been asked, or may have been.
        """
        return self.event(
            EventType.CDS_OUTCOME,
            Phase.OUTCOME,
            outcome=Outcome.REFUSED if error.status < 500 else Outcome.FAILED,
            model=model_ref(model, None) if model else None,
            evidence={"status": error.status, "reason": error.reason, "cards": []},
        )

    def job_done(
        self,
        outcome: Outcome,
        reason: str,
        model: ModelIdentity,
        job: JobView | None,
    ) -> AuditEvent:
        """An assessment ended after its hook had been answered."""
        prediction = job.prediction if job else None
        return self.event(
            EventType.JOB_DONE,
            outcome=outcome,
            model=model_ref(model, prediction),
            evidence={
                "reason": reason[:MAX_REASON],
                "job": job.job_id if job else None,
                "prediction": prediction.prediction_id if prediction else None,
            },
        )


def model_ref(model: ModelIdentity, prediction: Prediction | None) -> ModelRef:
    """The model and device of a sealed prediction, or the model that was asked."""
    if prediction:
        model = prediction.model
    device = prediction.device if prediction else NO_DEVICE
    return ModelRef(model.name, model.version, model.sha256, device)


_REFUSALS: Mapping[type[WebError], EventType] = {
    UnauthenticatedError: EventType.AUTH_FAIL,
    LaunchRefusedError: EventType.AUTH_FAIL,
    NotYoursError: EventType.AUTHZ_DENY,
}


def refusal(
    error: WebError, source: str, count: int, caller: Caller | None
) -> AuditEvent:
    """One or more calls refused before any patient was known."""
    known = caller is not None
    return AuditEvent(
        event_type=_REFUSALS.get(type(error), EventType.CDS_REFUSED),
        action=Action.EXECUTE,
        outcome=Outcome.REFUSED if error.status < 500 else Outcome.FAILED,
        phase=Phase.SINGLE,
        agent=Agent(
            "service",
            "urn:trivium:caller" if known else "urn:trivium:unauthenticated",
            caller.iss if caller else source,
            network=source,
        ),
        subject=None,
        purpose=PURPOSE,
        correlation_id=new_correlation_id(),
        evidence={
            "status": error.status,
            "reason": error.reason,
            "count": count,
            "tenant": caller.tenant.id if caller else None,
            "jti": caller.jti if caller else None,
        },
    )
