"""The record: one patient, nothing after the cutoff, nothing lost, nothing leaked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fhir_adapters.assemble import assemble, observation_account
from fhir_adapters.errors import (
    MalformedResourceError,
    ResourceTooLargeError,
    WrongPatientError,
)
from fhir_adapters.patient_record import Modality, ModalityState, ModalityStatus
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.received import ImageOutcome, Received
from tests.fhir_adapters.fhir_samples import (
    CUTOFF,
    SOP_UID,
    STUDY_UID,
    attachment,
    blood_pressure,
    chest_image,
    concept,
    document,
    endpoint,
    imaging_study,
    loinc,
    observation,
    patient,
    quantity,
    received,
    report,
    series,
)


def build(*resources, images=(), **more):
    policy = AdapterPolicy(**more.pop("policy", {}))
    return assemble(
        more.pop("who", patient()),
        received(*resources),
        images,
        cutoff=CUTOFF,
        policy=policy,
        **more,
    )


def state(record, modality):
    found = record.states[modality]
    return found.status.value, found.reason


def sodium(identifier, value, when="2026-03-01T08:00:00Z", **more):
    made = observation(value=quantity(Decimal(value), "mmol/L"), id=identifier, **more)
    return {**made, "effectiveDateTime": when}


def test_a_full_record_holds_all_three_roads():
    record = build(
        observation(), document(), imaging_study(), endpoint(), images=[chest_image()]
    )
    assert record.presence() == dict.fromkeys(Modality, True)
    assert record.references() == (
        f"ImagingStudy/s1#{SOP_UID}",
        "DocumentReference/d1",
        "Observation/o1",
    )
    assert record.skipped == ()
    assert record.patient.patient_id == "p1"


def test_an_empty_chart_is_absent_not_unreadable():
    record = build()
    for modality in Modality:
        assert state(record, modality) == ("absent", "none_received")


def test_a_failed_source_is_unreadable_not_absent():
    failed = {m: "upstream_timeout" for m in Modality}
    record = build(unavailable=failed)
    for modality in Modality:
        assert state(record, modality) == ("unreadable", "upstream_timeout")
    # Evidence that came another way still counts.
    record = build(observation(), unavailable=failed)
    assert state(record, Modality.VALUES) == ("present", "")


def test_evidence_behind_an_unknown_unit_is_unreadable():
    record = build(observation(value=quantity(1, "furlong")))
    assert state(record, Modality.VALUES) == ("unreadable", "unknown_unit")
    record = build(observation("4548-4"), report(presentedForm=None))
    assert state(record, Modality.VALUES) == ("absent", "none_usable")
    assert state(record, Modality.TEXT) == ("absent", "none_usable")
    record = build(report(presentedForm=[attachment("x", "application/xml")]))
    assert state(record, Modality.TEXT) == ("unreadable", "content_type")


def test_the_latest_value_before_the_cutoff_wins_and_all_stay_in_history():
    record = build(
        sodium("a", 140, "2026-02-27T08:00:00Z"),
        sodium("c", 150, "2026-03-01T13:00:00Z"),
        sodium("b", 141, "2026-02-28T08:00:00+01:00"),
    )
    assert [v.value for v in record.values] == [141]
    assert [v.value for v in record.history] == [141, 140]
    assert record.skip_counts() == {"after_cutoff": 1}


def test_at_one_time_final_beats_preliminary():
    record = build(
        sodium("z", 139, status="preliminary"), sodium("a", 140, status="final")
    )
    assert record.values[0].value == 140
    assert len(record.history) == 2


def test_duplicates_are_merged_preferring_final():
    record = build(
        sodium("pre", "140.0", status="preliminary"),
        sodium("fin", "140"),
        sodium("cor", "140", status="corrected"),
    )
    (value,) = record.history
    assert value.provenance.reference == "Observation/cor"
    account = observation_account(record)
    assert (account.used, account.skipped, account.received) == (1, {"duplicate": 2}, 3)


def test_a_partly_repeated_panel_is_still_used_once():
    systolic = observation("8480-6", quantity(120, "mm[Hg]"), id="z9")
    record = build(blood_pressure(), systolic)
    account = observation_account(record)
    assert (account.used, account.skipped) == (2, {})
    assert record.skip_counts() == {"duplicate": 1}
    assert {v.loinc for v in record.values} == {"8480-6", "8462-4"}


def test_used_and_skipped_make_up_all_observations():
    made = [
        observation(),
        blood_pressure(id="bp"),
        observation(id="x", status=None),
        observation("4548-4", id="y"),
        observation(id="o1"),
        observation(id="bad id"),
        {**observation(), "id": None},
        {"resourceType": "Observation"},
        observation(id="z", subject={"reference": "Patient/p2"}),
    ]
    account = observation_account(build(*made))
    assert account.received == len(made)
    assert account.used == 2
    assert account.skipped == {
        "duplicate": 1,
        "malformed_id": 2,
        "missing_status": 1,
        "no_id": 1,
        "other_patient": 1,
        "unmapped_code": 1,
    }


def test_the_newest_version_of_a_resource_counts():
    old = sodium("o1", 140, meta={"lastUpdated": "2026-01-01T00:00:00Z"})
    new = sodium("o1", 141, meta={"lastUpdated": "2026-02-01T00:00:00Z"})
    for order in ((old, new), (new, old)):
        record = build(*order)
        assert [v.value for v in record.history] == [141]
    withdrawn = observation(status="entered-in-error")
    assert build(observation(), withdrawn).values == ()
    counted = [
        sodium("o1", v, meta={"versionId": str(i)}) for i, v in ((9, 140), (10, 141))
    ]
    assert build(*counted).values[0].value == 141


def test_a_second_patient_stops_everything():
    with pytest.raises(WrongPatientError):
        build(observation(), patient(id="p2"))
    assert build(patient(), observation()).values


def test_a_strangers_resource_neither_counts_nor_displaces():
    stolen = observation(
        subject={"reference": "Patient/p2"},
        meta={"lastUpdated": "2026-03-01T11:00:00Z"},
    )
    record = build(observation(), stolen)
    assert [v.value for v in record.values] == [140]
    assert record.skip_counts() == {"other_patient": 1}


def test_no_patient_no_record():
    with pytest.raises(MalformedResourceError):
        build(who={"resourceType": "Group", "id": "g"})
    with pytest.raises(MalformedResourceError):
        build(who={"resourceType": "Patient"})


def test_a_cutoff_without_zone_is_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="time zone"):
        assemble(patient(), (), (), cutoff=datetime(2026, 3, 1))


def test_too_many_resources_are_refused_together():
    with pytest.raises(ResourceTooLargeError):
        build(observation(), observation(id="b"), policy={"max_resources": 1})


def test_outcomes_and_foreign_types_are_counted():
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "warning", "diagnostics": "Mr Smith"}],
    }
    record = build(outcome, {"resourceType": "Claim", "id": "c"}, {}, "text")
    assert record.skip_counts() == {
        "malformed_resource": 2,
        "operation_outcome": 1,
        "unused_type": 1,
    }
    assert "Smith" not in repr(record.skipped)
    assert record.skipped[0].detail == "warning"


def test_who_and_where_are_no_evidence():
    visit = {"resourceType": "Encounter", "id": "v", "subject": {"reference": "x"}}
    assert build(visit, observation()).skipped == ()


def test_unrequested_includes_are_left_out():
    made = [
        Received(observation(), "fhir", "include"),
        Received(observation(id="b"), "fhir", "match"),
        Received(endpoint(), "fhir", "include"),
    ]
    record = assemble(patient(), made, (), cutoff=CUTOFF)
    assert record.skip_counts() == {"not_requested": 1}
    assert len(record.values) == 1


def test_deep_and_unserialisable_resources_are_skipped():
    deep: dict[str, object] = {}
    node = deep
    for _ in range(100):
        node["a"] = {}
        node = node["a"]
    record = build(
        observation(extension=deep),
        observation(id="b", extension={1, 2}),
        observation(id="c", extension=float("nan")),
    )
    assert record.skip_counts() == {"not_json": 2, "too_deep": 1}


def test_the_same_evidence_has_the_same_digest_and_other_evidence_another():
    first, again = build(observation()), build(dict(reversed(observation().items())))
    assert first.evidence_sha256() == again.evidence_sha256()
    other = build(observation(value=quantity(Decimal("140.0"), "mmol/L")))
    assert other.evidence_sha256() != first.evidence_sha256()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (chest_image("LATERAL"), ("absent", "not_frontal")),
        (chest_image(None), ("unreadable", "view_unknown")),
        (
            chest_image(acquired_at=datetime(2026, 3, 2, tzinfo=UTC)),
            ("absent", "after_cutoff"),
        ),
        (ImageOutcome.failed("ImagingStudy/s1", "bomb"), ("unreadable", "bomb")),
    ],
)
def test_an_image_that_is_no_frontal_before_the_cutoff(image, expected):
    record = build(imaging_study(), images=[image])
    assert state(record, Modality.IMAGE) == expected
    assert record.images == ()
    assert record.skip_counts() == {expected[1]: 1}


def test_a_failed_image_weighs_more_than_one_that_does_not_fit():
    failed = ImageOutcome.failed("ImagingStudy/s1", "")
    record = build(images=[chest_image("LATERAL"), failed])
    assert state(record, Modality.IMAGE) == ("unreadable", "image_unreadable")


def test_a_study_without_pixels_is_the_ordinary_missing_image():
    assert state(build(imaging_study()), Modality.IMAGE) == (
        "absent",
        "image_not_retrieved",
    )
    wrist = imaging_study(status="cancelled")
    assert state(build(wrist), Modality.IMAGE) == ("absent", "none_received")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"series": [series(modality={"code": "CT"})]}, "CT"),
        ({"series": [series(modality={"code": m}) for m in ("MR", "SR")]}, "MR"),
        ({"series": None, "modality": [{"code": "CT"}, {"code": "MR"}]}, "CT, MR"),
    ],
)
def test_another_kind_of_image_is_named_and_not_called_absent(more, named):
    record = build(imaging_study(**more))
    assert state(record, Modality.IMAGE) == ("absent", "modality_not_supported")
    (skip,) = record.skipped
    assert (skip.reference, skip.detail) == ("ImagingStudy/s1", named)


def test_a_radiograph_counts_before_another_kind_of_image():
    ct = imaging_study(id="s2", series=[series(modality={"code": "CT"})])
    record = build(imaging_study(), ct)
    assert state(record, Modality.IMAGE) == ("absent", "image_not_retrieved")
    assert record.skip_counts() == {"modality_not_supported": 1}
    wrist = imaging_study(series=[series(bodySite={"code": "8205005"})])
    assert state(build(wrist), Modality.IMAGE) == ("absent", "none_received")


def test_images_are_newest_first_and_undated_ones_take_their_studys_time():
    older = chest_image(acquired_at=datetime(2026, 2, 1, tzinfo=UTC), study_uid="1.1")
    undated = chest_image(acquired_at=None, study_uid="1.2")
    newer = chest_image()
    record = build(images=[undated, older, newer])
    assert record.images == (newer, older, undated)
    late = imaging_study(started="2026-03-01T13:00:00Z")
    undated = chest_image(acquired_at=None)
    record = build(late, images=[undated])
    assert state(record, Modality.IMAGE) == ("absent", "after_cutoff")


def test_an_outcome_is_an_image_or_a_reason():
    with pytest.raises(ValueError, match="image or a reason"):
        ImageOutcome("ImagingStudy/s1")
    with pytest.raises(ValueError, match="image or a reason"):
        ImageOutcome("ImagingStudy/s1", chest_image(), "reason")


ACCESSION = {"type": concept(("x", "ACSN")), "value": "A1"}
ORDER = [{"reference": "ServiceRequest/o1"}]
LINKS = [
    ({"imagingStudy": [{"reference": "ImagingStudy/s1"}]}, {}),
    ({"imagingStudy": [{"identifier": {"value": f"urn:oid:{STUDY_UID}"}}]}, {}),
    (
        {"identifier": [ACCESSION]},
        {"identifier": [ACCESSION, *imaging_study()["identifier"]]},
    ),
    ({"basedOn": ORDER}, {"basedOn": ORDER}),
]


@pytest.mark.parametrize(("on_report", "on_study"), LINKS)
def test_the_report_of_the_scored_image_is_left_out(on_report, on_study):
    record = build(
        report(**on_report), imaging_study(**on_study), images=[chest_image()]
    )
    assert record.notes == ()
    assert record.skip_counts() == {"report_of_scored_image": 1}
    assert state(record, Modality.TEXT) == ("absent", "none_usable")


def test_its_copy_in_another_resource_goes_with_it():
    linked = {"imagingStudy": [{"reference": "ImagingStudy/s1"}]}
    record = build(
        report("Left  effusion.", **linked),
        document("left effusion."),
        images=[chest_image()],
    )
    assert record.skip_counts() == {"report_of_scored_image": 2}


def test_the_report_may_be_kept_by_policy_and_without_an_image():
    linked = report(imagingStudy=[{"reference": "ImagingStudy/s1"}])
    kept = build(
        linked, images=[chest_image()], policy={"exclude_report_of_image": False}
    )
    assert len(kept.notes) == 1
    assert len(build(linked, imaging_study()).notes) == 1


def test_an_unlinked_radiology_report_after_the_image_is_flagged():
    record = build(report(), images=[chest_image()])
    assert record.notes[0].flags == ("after-scored-image",)
    early = report(effectiveDateTime="2026-02-01T08:00:00Z")
    assert build(early, images=[chest_image()]).notes[0].flags == ()


def test_a_clinical_note_that_names_the_study_is_used():
    named = {"imagingStudy": [{"reference": "ImagingStudy/s1"}]}
    note = report(category=[concept(("urn:x", "clinical-note"))], **named)
    related = {"context": {"related": [{"reference": "ImagingStudy/s1"}]}}
    record = build(note, document(**related), images=[chest_image()])
    assert len(record.notes) == 2
    typed = document(type=loinc("18748-4"), **related)
    assert build(typed, images=[chest_image()]).notes == ()
    by_number = {"context": {"related": [{"identifier": ACCESSION}]}}
    study = imaging_study(identifier=[ACCESSION, *imaging_study()["identifier"]])
    typed = document(type=loinc("18748-4"), **by_number)
    assert build(typed, study, images=[chest_image()]).notes == ()


def test_the_same_text_twice_is_one_note():
    record = build(report("Clear."), document("clear."))
    assert len(record.notes) == 1
    assert record.skip_counts() == {"duplicate": 1}


def test_a_replaced_document_is_superseded():
    newer = document(
        "new",
        id="d2",
        relatesTo=[
            {"code": "replaces", "target": {"reference": "DocumentReference/d1"}}
        ],
    )
    record = build(document("old"), newer)
    assert [note.text for note in record.notes] == ["new"]
    assert record.skip_counts() == {"superseded": 1}


def test_notes_are_newest_first():
    record = build(
        document("old", id="a", date="2026-01-01T00:00:00Z"),
        document("new", id="b"),
    )
    assert [note.text for note in record.notes] == ["new", "old"]


def test_absolute_references_need_the_servers_own_base():
    base = "https://ehr.example/fhir"
    own = observation(subject={"reference": f"{base}/Patient/p1/_history/2"})
    assert build(own, policy={"fhir_base": base + "/"}).values
    assert build(own).skip_counts() == {"subject_unresolved": 1}
    elsewhere = build(own, policy={"fhir_base": "https://other.example/fhir"})
    assert elsewhere.skip_counts() == {"other_patient": 1}


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ({"reference": "Patient/p1"}, ""),
        ({"reference": "urn:uuid:p1"}, ""),
        ({"identifier": {"system": "urn:mrn", "value": "MRN-1"}}, ""),
        ({"reference": "urn:uuid:p2"}, "other_patient"),
        ({"reference": "Patient/p10"}, "other_patient"),
        ({"reference": "Group/p1"}, "other_patient"),
        ({"reference": "https://x.example/Patient/p2"}, "other_patient"),
        ({"identifier": {"system": "urn:mrn", "value": "MRN-2"}}, "other_patient"),
        ({"identifier": {"system": "urn:else", "value": "1"}}, "subject_unresolved"),
        ({"identifier": {"value": "MRN-1"}}, "subject_unresolved"),
        ({"reference": "#contained"}, "subject_unresolved"),
        ({"display": "somebody"}, "no_subject"),
        ([], "no_subject"),
        ("Patient/p1", "no_subject"),
    ],
)
def test_whose_a_resource_is(subject, expected):
    record = build(observation(subject=subject))
    assert list(record.skip_counts()) == ([expected] if expected else [])


def test_withdrawn_identifiers_no_longer_identify():
    old = patient(identifier=[{"system": "urn:mrn", "value": "MRN-1", "use": "old"}])
    record = build(
        observation(subject={"identifier": {"system": "urn:mrn", "value": "MRN-1"}}),
        who=old,
    )
    assert record.skip_counts() == {"subject_unresolved": 1}


@pytest.mark.parametrize(
    ("born", "known"), [("1961-04-10", True), ("1961", False), ("1961-13-01", False)]
)
def test_a_partial_birth_date_is_not_completed(born, known):
    identity = build(who=patient(birthDate=born, gender="F")).patient
    assert (identity.birth_date is not None) is known
    assert identity.sex is None
    assert (identity.age_years(CUTOFF) is not None) is known


def test_states_are_values_that_compare():
    record = build(observation())
    assert record.states[Modality.VALUES] == ModalityState(ModalityStatus.PRESENT)
    assert replace(record.values[0], flags=()) == record.values[0]
