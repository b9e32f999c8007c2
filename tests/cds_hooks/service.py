"""A service with everything real around it, and a worker's role played by a thread.

The thread claims jobs in the real store, decodes the real payload and completes it with
a prepared prediction: what the model would say is the only thing that is made up.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from audit.provision import initialise
from audit.search import AuditQuery, search
from audit.settings import AuditSettings
from cds_hooks.app import close, create_app
from cds_hooks.settings import WebSettings
from cds_hooks.tenants import parse_tenants
from cds_hooks.web_services import WebServices
from fhir_adapters.patient_record import PatientRecord
from model.jobs import record_codec
from model.jobs.cipher import write_new_key
from model.jobs.explanation import Explanation, ModalityShare, Sentence
from model.jobs.prediction import (
    LabelEstimate,
    ModelIdentity,
    Prediction,
    Validation,
)
from model.jobs.queue import open_store
from model.settings import JobSettings
from tests.cds_hooks import invariants
from tests.cds_hooks.ehr import PATIENT_ID, TOKEN, Ehr

PUBLIC = "http://127.0.0.1:8000"
SERVICE_URL = f"{PUBLIC}/cds-services/trivium-chest"
VALIDATION = {
    "metric": "AUROC",
    "value": 0.87,
    "low": 0.83,
    "high": 0.91,
    "n": 300,
    "method": "synthetic patients, held out",
}


def audit_settings(folder: Path) -> AuditSettings:
    return AuditSettings(
        url=f"sqlite:///{folder}/audit.db",
        keys_url=f"sqlite:///{folder}/keys.db",
        kek_file=folder / "kek",
        index_key_file=folder / "index",
        node_key_file=folder / "node",
        journal=folder / "journal",
        checkpoints=folder / "anchors" / "checkpoints",
        trust_file=folder / "node.pub",
        deadline_ms=1000,
    )


def audit_files(folder: Path) -> Path:
    initialise(audit_settings(folder))
    return folder


def checkpoint(folder: Path) -> Path:
    """A folder with a model's name and digest and nothing that could predict."""
    import hashlib

    folder.mkdir()
    config = json.dumps(
        {
            "name": "trivium-test",
            "version": "0.1.0",
            "trained_on": "synthetic patients <b>only</b>",
            "validation": VALIDATION,
        }
    ).encode()
    (folder / "config.json").write_bytes(config)
    files = {"config.json": hashlib.sha256(config).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    (folder / "MODEL_CARD.md").write_text("# Model <card>\n")
    return folder


def prediction(record: PatientRecord, model: ModelIdentity, **more: Any) -> Prediction:
    made: dict[str, Any] = {
        "prediction_id": uuid.uuid4().hex,
        "made_at": "2026-01-11T00:00:00Z",
        "model": model,
        "device": "cpu",
        "presence": {m.value: there for m, there in record.presence().items()},
        "states": {
            m.value: f"{s.status}: {s.reason}" if s.reason else str(s.status)
            for m, s in record.states.items()
        },
        "calibration": "temperature",
        "estimates": (LabelEstimate("pneumonia", "Pneumonia", 1.2, 0.78, 0.5),),
        "abstentions": (),
        "inputs": record.references(),
        "evidence_sha256": record.evidence_sha256(),
        **more,
    }
    return Prediction(**made)


EXPLANATION = Explanation(
    label="pneumonia",
    modalities=(
        ModalityShare("image", 0.0, 0.0),
        ModalityShare("text", 0.9, 0.2),
        ModalityShare("values", -0.3, -0.05),
    ),
    heat_maps=(),
    words=(),
    values=(),
    narrative=(
        Sentence("t", "Raised by <img src=x onerror=alert(1)> in the note.", ("d",)),
    ),
)


class Worker:
    """Plays the worker: claims jobs, then completes or fails them."""

    def __init__(self, settings: JobSettings, model: ModelIdentity) -> None:
        self._store = open_store(settings, timeout_s=5.0)
        self._model = model
        self.estimate: dict[str, Any] = {}
        self.explanation: Explanation | None = EXPLANATION
        self.fails_with = ""
        self.device = "cpu"
        self.may_work = threading.Event()
        self.may_work.set()
        self.done: list[str] = []
        self.records: list[PatientRecord] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            if not self.may_work.is_set():
                continue
            for job_id in self._store.overdue():
                self._work(job_id)

    def _work(self, job_id: str) -> None:
        claim = self._store.claim(job_id, self._model.sha256)
        if claim is None:
            return
        if self.fails_with:
            self._store.fail(job_id, claim.lease_token, self.fails_with)
            return
        record = record_codec.decode(self._store.payload(job_id))
        made = prediction(
            record, self._model, **{"device": self.device, **self.estimate}
        )
        why = self.explanation.to_json() if self.explanation else None
        result = {"prediction": made.to_json(), "explanation": why}
        self._store.complete(claim, json.dumps(result).encode(), self.device)
        self.records.append(record)
        self.done.append(job_id)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._store.close()


class Service:
    """The running service as a test sees it."""

    def __init__(self, app: Flask, ehr: Ehr, worker: Worker, folder: Path) -> None:
        self.app = app
        self.ehr = ehr
        self.worker = worker
        self.folder = folder
        self.client: FlaskClient = app.test_client()
        self.parts: WebServices = app.extensions["trivium"]

    def body(self, **more: Any) -> dict[str, Any]:
        """A valid hook request; ``None`` leaves a field out."""
        made = {
            "hook": "patient-view",
            "hookInstance": str(uuid.uuid4()),
            "context": {"userId": "Practitioner/dr-1", "patientId": PATIENT_ID},
            "fhirServer": self.ehr.fhir,
            "fhirAuthorization": {
                "access_token": TOKEN,
                "token_type": "Bearer",
                "expires_in": 300,
                "scope": "patient/*.rs",
                "subject": "trivium",
                "patient": PATIENT_ID,
            },
            **more,
        }
        return {name: value for name, value in made.items() if value is not None}

    def post(
        self, body: Any, *, token: str | None = "good", service: str = "trivium-chest"
    ) -> TestResponse:
        """Call the hook; every 200 is checked against the invariants."""
        url = f"{PUBLIC}/cds-services/{service}"
        signed = self.ehr.token(url) if token == "good" else token
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self.client.post(
            f"/cds-services/{service}",
            data=data,
            content_type="application/json",
            headers={"Authorization": f"Bearer {signed}"} if signed else {},
        )
        if response.status_code == 200:
            assert invariants.response_broken(response.get_json()) == []
        elif response.status_code != 401:
            outcome = response.get_json()
            assert outcome["resourceType"] == "OperationOutcome"
            assert list(invariants.empties(outcome)) == []
        return response

    def card(self, **more: Any) -> dict[str, Any]:
        """The one card of a valid call."""
        response = self.post(self.body(**more))
        assert response.status_code == 200, response.get_data(as_text=True)
        (card,) = response.get_json()["cards"]
        return dict(card)

    def events(self, **query: Any) -> list[Any]:
        """Audit events, oldest first."""
        page = search(audit_settings(self.folder / "audit"), AuditQuery(**query))
        return sorted(page.events, key=lambda event: event.seq)


def state_of(card: dict[str, Any]) -> str:
    return str(card["extension"]["dev.trivium.assessment"]["state"])


def web_settings(ehr: Ehr, folder: Path, fresh_audit: Path, **more: Any) -> WebSettings:
    """Settings of one service; jobs settings may be changed through ``jobs``."""
    audit = folder / "audit"
    if not audit.exists():
        shutil.copytree(fresh_audit, audit, copy_function=shutil.copy2)
    key = folder / "payload.key"
    if not key.exists():
        write_new_key(key)
    jobs = JobSettings(
        payload_key_file=key,
        jobs_url=f"sqlite:///{folder}/jobs.db",
        broker_url=f"filesystem://{folder}/broker",
        unclaimed_s=0.001,
        publish_timeout_s=0.5,
    )
    model = folder / "checkpoint"
    if not model.exists():
        checkpoint(model)
    given: dict[str, Any] = {
        "public_url": PUBLIC,
        "tenants": parse_tenants({"tenants": [ehr.tenant()]}),
        "session_key": os.urandom(32),
        "jobs": replace(jobs, **more.pop("jobs", {})),
        "audit": audit_settings(audit),
        "checkpoint": model,
        "deadline_s": 3.0,
        "reserve_s": 0.5,
        "replay_file": folder / "replay.db",
        "gather_threads": 4,
        "fetch_threads": 12,
        **more,
    }
    return WebSettings(**given)


@contextmanager
def running_service(
    ehr: Ehr, folder: Path, fresh_audit: Path, **more: Any
) -> Iterator[Service]:
    """A service that is closed, worker and all, at the end."""
    settings = web_settings(ehr, folder, fresh_audit, **more)
    app = create_app(settings)
    identity: ModelIdentity = app.extensions["trivium"].model
    worker = Worker(settings.jobs, identity)
    try:
        yield Service(app, ehr, worker, folder)
    finally:
        worker.close()
        close(app)


MODEL = ModelIdentity("m", "1", "0" * 64, "t", Validation(**VALIDATION))  # type: ignore
