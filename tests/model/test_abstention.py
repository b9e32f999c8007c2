"""When no number may be shown: each reason by its code, and only then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta

import numpy as np
import pytest

from fhir_adapters.patient_record import (
    ChestImage,
    Modality,
    ModalityState,
    ModalityStatus,
    PatientRecord,
)
from model.inference.abstention import (
    DETAILS,
    OUTSIDE_CODES,
    AbstentionPolicy,
    abstentions_before,
    abstentions_outside,
    newest_evidence,
    usable_record,
)
from tests.model.job_samples import NOW, record

POLICY = AbstentionPolicy(max_age_days=30)
PRESENT = ModalityState(ModalityStatus.PRESENT)
ABSENT = ModalityState(ModalityStatus.ABSENT, "none_found")
UNREADABLE = ModalityState(ModalityStatus.UNREADABLE, "transfer_syntax")


def film(**changes: object) -> ChestImage:
    """A usable frontal film with changes."""
    return replace(record().images[0], **changes)  # type: ignore[arg-type]


def with_states(*states: ModalityState) -> PatientRecord:
    """A record in these states, without content."""
    named = dict(zip(Modality, states))
    return record(states=named, images=(), notes=(), values=())


def codes(case: PatientRecord, policy: AbstentionPolicy = POLICY) -> list[str]:
    """Abstention codes of a record as it is used."""
    used = usable_record(case, policy)
    return [a.code for a in abstentions_before(used, used.states, policy)]


def test_a_complete_fresh_record_is_not_refused() -> None:
    assert codes(record()) == []
    assert usable_record(record(), POLICY).images


@pytest.mark.parametrize(
    "states,code",
    [
        ((ABSENT, ABSENT, ABSENT), "no_modality"),
        ((UNREADABLE, ABSENT, ABSENT), "unreadable_only"),
        ((ABSENT, UNREADABLE, UNREADABLE), "unreadable_only"),
    ],
)
def test_nothing_to_read_is_refused_by_what_was_there(
    states: tuple[ModalityState, ...], code: str
) -> None:
    assert codes(with_states(*states)) == [code]


def test_one_readable_modality_is_enough() -> None:
    case = record(
        states={
            Modality.IMAGE: UNREADABLE,
            Modality.TEXT: ABSENT,
            Modality.VALUES: PRESENT,
        },
        images=(),
        notes=(),
    )
    assert codes(case) == []


@pytest.mark.parametrize(
    "blank",
    [
        film(pixels=np.full((5, 7), 0.5, np.float32)),
        film(flags=("qc-blank",)),
    ],
)
def test_a_blank_film_is_left_out_as_unreadable(blank: ChestImage) -> None:
    used = usable_record(record(images=(blank,)), POLICY)
    assert used.images == ()
    state = used.states[Modality.IMAGE]
    assert (state.status, state.reason) == (ModalityStatus.UNREADABLE, "blank_image")
    assert codes(record(images=(blank,))) == []  # note and values remain


@pytest.mark.parametrize("view", ["LATERAL", "lateral", "LL"])
def test_a_lateral_film_is_left_out_as_no_frontal(view: str) -> None:
    used = usable_record(record(images=(film(view=view),)), POLICY)
    state = used.states[Modality.IMAGE]
    assert (state.status, state.reason) == (ModalityStatus.ABSENT, "no_frontal")


@pytest.mark.parametrize("view", ["PA", "AP", None])
def test_a_frontal_film_and_one_of_unknown_view_are_kept(view: str | None) -> None:
    assert usable_record(record(images=(film(view=view),)), POLICY).images


def test_one_usable_film_among_others_is_kept_alone() -> None:
    case = record(images=(film(view="LATERAL"), film(), film(flags=("qc-blank",))))
    used = usable_record(case, POLICY)
    assert [image.view for image in used.images] == ["PA"]
    assert used.states[Modality.IMAGE] == PRESENT


@pytest.mark.parametrize(
    "image,code",
    [
        (film(view="LATERAL"), "lateral_only"),
        (film(flags=("qc-blank",)), "blank_image"),
    ],
)
def test_a_film_alone_that_cannot_be_read_is_an_abstention(
    image: ChestImage, code: str
) -> None:
    case = record(
        states={
            Modality.IMAGE: PRESENT,
            Modality.TEXT: ABSENT,
            Modality.VALUES: ABSENT,
        },
        images=(image,),
        notes=(),
        values=(),
    )
    assert codes(case) == [code]


def test_evidence_is_stale_when_its_newest_piece_is() -> None:
    late = replace(record(), cutoff=NOW + timedelta(days=31))
    assert codes(late) == ["stale_data"]
    assert codes(replace(late, cutoff=NOW + timedelta(days=30))) == []
    fresh_film = replace(late, images=(film(acquired_at=late.cutoff),))
    assert codes(fresh_film) == []
    assert codes(late, AbstentionPolicy(max_age_days=0)) == []


def test_evidence_without_any_time_is_not_called_stale() -> None:
    case = record(values=(), notes=(replace(record().notes[0], written_at=None),))
    assert newest_evidence(case) is None
    assert codes(replace(case, cutoff=NOW + timedelta(days=999))) == []


def test_the_newest_evidence_is_found_among_all_kinds() -> None:
    later = NOW + timedelta(hours=1)
    assert newest_evidence(record()) == NOW
    assert newest_evidence(record(images=(film(acquired_at=later),))) == later
    unzoned = film(acquired_at=later.astimezone(UTC).replace(tzinfo=None))
    assert newest_evidence(record(images=(unzoned,))) == NOW


def test_features_outside_what_was_learnt_are_refused_by_modality() -> None:
    ratios = {"image": 1.01, "text": 0.99, "values": 7.0}
    refused = abstentions_outside(ratios, POLICY)
    assert [a.code for a in refused] == ["ood_image", "ood_labs"]
    assert abstentions_outside({}, POLICY) == ()
    assert not abstentions_outside({"text": 1.0}, POLICY)


def test_every_code_says_something_and_directs_nobody() -> None:
    assert set(OUTSIDE_CODES.values()) <= set(DETAILS)
    for detail in DETAILS.values():
        assert detail and not {"give", "start", "stop", "must"} & set(detail.split())
