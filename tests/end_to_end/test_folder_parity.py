"""Real cases imported as FHIR and DICOM are the cases that a model was trained on."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from deploy.sandbox.case_resources import case_uid
from deploy.sandbox.import_cases import CaseFilter, import_folder
from deploy.sandbox.store import Store
from fhir_adapters.assemble import assemble
from fhir_adapters.dicom.image import load_image
from fhir_adapters.dicom.instance import ExpectedInstance
from fhir_adapters.patient_record import PatientRecord
from fhir_adapters.received import Received
from model.datasets.trimodal_folder import FolderCase, read_cases
from tests.services import data_folder

KINDS = ("Observation", "DocumentReference", "ImagingStudy")


def from_store(store: Store, patient: str) -> PatientRecord:
    """What the adapters make of one imported patient."""
    (instance,) = store.instances(case_uid(patient, "study"))
    expected = ExpectedInstance(
        study_uid=instance.study_uid,
        series_uid=instance.series_uid,
        sop_uid=instance.sop_uid,
    )
    image = load_image(
        instance.read(),
        expected=expected,
        reference=f"ImagingStudy/{patient}-film",
        origin="dicomweb",
    )
    received = [Received(r, "fhir") for k in KINDS for r in store.all(k, patient)]
    who = store.get("Patient", patient)
    assert who is not None
    return assemble(who, received, [image], cutoff=datetime.now(UTC))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory):
    folder = data_folder("trimodal")
    store = Store(tmp_path_factory.mktemp("store"))
    wanted = CaseFilter(split="test", primary=True)
    today = datetime.now(UTC).date()
    imported = set(import_folder(folder, store, wanted, today, quiet=True))
    cases = [c for c in read_cases(folder, splits=("test",)) if c.primary]
    assert {c.case_id for c in cases} == imported and len(cases) == 25
    return [(case, from_store(store, case.case_id)) for case in cases]


def test_notes_and_films_arrive_as_they_are_in_the_folder(
    pairs: list[tuple[FolderCase, PatientRecord]],
) -> None:
    for case, record in pairs:
        direct = case.record
        assert [n.text for n in record.notes] == [n.text for n in direct.notes]
        assert record.images[0].pixels.shape == direct.images[0].pixels.shape
        gap = np.abs(record.images[0].pixels - direct.images[0].pixels).max()
        assert gap < 1 / 255, case.case_id


def test_values_arrive_with_their_numbers_or_a_counted_reason(
    pairs: list[tuple[FolderCase, PatientRecord]],
) -> None:
    for case, record in pairs:
        found = {(v.loinc, v.value) for v in record.values}
        told = {(v.loinc, v.value) for v in case.record.values}
        # Blood gases of unknown specimen stand outside the closed table of codes.
        assert found <= told
        missing = len(told) - len(found)
        assert sum(record.skip_counts().values()) >= missing


def test_a_case_without_a_note_is_absent_and_not_empty(
    pairs: list[tuple[FolderCase, PatientRecord]],
) -> None:
    without = [r for c, r in pairs if c.subset == "hannover"]
    assert len(without) == 9
    assert all(r.states["text"].status == "absent" for r in without)
