"""PatientRecord to tensors: deterministic, evidence kept, nothing filled in."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
import torch

from fhir_adapters.patient_record import Modality
from model.inference.tensors import (
    chosen_images,
    interpretation,
    letterbox,
    to_tensors,
)
from model.inference.vocabulary import AGE, SEX
from model.network.inputs import FLAGS
from tests.model.network_samples import batch, records, vocabulary, without


def test_the_same_records_give_the_same_tensors() -> None:
    first, second = batch(), batch()
    for item in fields(first):
        a, b = getattr(first, item.name), getattr(second, item.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("absent", list(Modality))
def test_a_missing_modality_is_not_present_and_empty(absent: Modality) -> None:
    inputs = batch([without(records()[0], absent), records()[1]])
    masks = {
        Modality.IMAGE: inputs.pixel_mask,
        Modality.TEXT: inputs.attn,
        Modality.VALUES: inputs.obs_mask,
    }
    wanted = [m is not absent for m in Modality]
    assert inputs.present.tolist() == [wanted, [True] * 3]
    assert not masks[absent][0].any() and masks[absent][1].any()


def test_a_record_without_anything_is_all_padding() -> None:
    inputs = batch([without(records()[0], *Modality)])
    assert not inputs.present.any()
    assert inputs.input_ids.shape == (1, 1) and inputs.code.shape == (1, 1)
    assert inputs.image_ids == ((),) and inputs.value_ids == ((),)


def test_content_of_an_absent_modality_is_not_read() -> None:
    record = records()[0]
    stripped = without(record, *Modality)
    smuggled = replace(stripped, images=record.images, notes=record.notes)
    assert not batch([smuggled]).present.any()


def test_word_offsets_point_into_the_original_note() -> None:
    record = records()[0]
    text = record.notes[0].text
    inputs = batch([record])
    pieces = vocabulary().pieces
    checked = 0
    for column in range(inputs.input_ids.shape[1]):
        start = int(inputs.word_start[0, column])
        end = int(inputs.word_end[0, column])
        if inputs.word[0, column] < 0:
            continue
        piece = pieces[int(inputs.input_ids[0, column])].removeprefix("##")
        assert piece in text[start:end].lower()
        checked += 1
    assert checked > 20
    assert inputs.note_ids[0] == (record.notes[0].provenance.reference,)


def test_two_notes_keep_their_own_offsets_and_numbers() -> None:
    record = records()[0]
    note = record.notes[0]
    other = replace(
        note,
        text="Fever.",
        provenance=replace(note.provenance, reference="DocumentReference/other"),
    )
    inputs = batch([replace(record, notes=(other, note))])
    words = inputs.word[0]
    assert int(words.max()) > 5
    assert inputs.note[0, :4].tolist() == [0, 0, 0, 0]  # [CLS] fever . [SEP]
    assert inputs.note[0, 5] == 1 and inputs.word_start[0, 4] == 0
    assert inputs.word[0, 4] == 2


def test_a_long_note_is_cut_at_the_limit() -> None:
    record = records()[0]
    long = replace(record.notes[0], text="fever and cough " * 200)
    inputs = batch([replace(record, notes=(long, record.notes[0]))])
    assert inputs.input_ids.shape[1] == vocabulary().max_tokens


def test_an_empty_note_is_no_text() -> None:
    record = records()[0]
    empty = replace(record, notes=(replace(record.notes[0], text="  "),))
    assert not batch([empty]).present[0, 1]


def test_letterbox_keeps_the_place_on_the_native_image() -> None:
    wide = np.random.default_rng(0).random((32, 128), dtype=np.float32)
    square, (left, top, width, height) = letterbox(wide, 64)
    assert square.shape == (64, 64)
    assert (left, width) == (0.0, 1.0)
    assert top == pytest.approx(-1.5) and height == pytest.approx(4.0)
    assert (square[:24] == 0).all() and (square[40:] == 0).all()
    content = square[24:40]
    assert abs(float(content.mean())) < 1e-4
    assert float(content.std()) == pytest.approx(1.0, abs=0.02)


def test_letterbox_averages_areas_and_keeps_orientation() -> None:
    image = np.zeros((128, 128), dtype=np.float32)
    image[:64, :64] = 1.0  # upper left quarter
    square, box = letterbox(image, 64)
    assert box == (0.0, 0.0, 1.0, 1.0)
    assert square[:32, :32].min() > square[32:, 32:].max()
    small, _ = letterbox(image[::4, ::4], 64)
    assert small.shape == (64, 64) and small[5, 5] > small[60, 60]


def test_a_blank_image_does_not_divide_by_zero() -> None:
    square, _ = letterbox(np.full((10, 10), 0.3, dtype=np.float32), 64)
    assert np.isfinite(square).all()


def test_the_frontal_film_is_preferred() -> None:
    record = records()[0]
    film = record.images[0]
    lateral = replace(film, view="LATERAL")
    both = replace(record, images=(lateral, film))
    assert chosen_images(both, 1) == (film,)
    assert chosen_images(replace(record, images=(lateral,)), 1) == (lateral,)


def test_a_code_without_statistics_gets_no_token() -> None:
    record = records()[0]
    strange = replace(record.values[0], loinc="99999-9")
    inputs = batch([replace(record, values=(strange, *record.values[1:]))])
    assert int(inputs.obs_mask.sum()) == int(batch([record]).obs_mask.sum()) - 1
    only = batch([replace(record, values=(strange,))])
    assert not only.present[0, 2], "age and sex alone are no values"


def test_age_and_sex_stand_beside_measured_values_when_stated() -> None:
    record = records()[0]
    rows = vocabulary().code_rows
    codes = batch([record]).code[0].tolist()
    assert rows[AGE] in codes and rows[SEX] in codes
    nameless = replace(record.patient, sex=None, birth_date=None)
    fewer = batch([replace(record, patient=nameless)]).code[0].tolist()
    assert rows[AGE] not in fewer and rows[SEX] not in fewer


def test_values_carry_age_flag_and_reference() -> None:
    record = records()[0]
    item = replace(
        record.values[0],
        measured_at=record.cutoff - timedelta(hours=6),
        interpretation="HH",
    )
    inputs = batch([replace(record, values=(item,))])
    assert inputs.dt_hours[0, 0] == pytest.approx(6.0)
    assert FLAGS[int(inputs.flag[0, 0])] == "HH"
    assert inputs.value_ids[0][0] == item.provenance.reference
    assert inputs.value_ids[0][1] == f"Patient/{record.patient.patient_id}"


@pytest.mark.parametrize(
    ("value", "low", "high", "sent", "flag"),
    [
        ("5", "10", None, None, "L"),
        ("50", None, "20", None, "H"),
        ("15", "10", "20", None, "N"),
        ("15", None, None, None, ""),
        ("15", "10", "20", "LL", "LL"),
    ],
)
def test_the_flag_is_as_sent_or_follows_the_sent_range(
    value: str, low: str | None, high: str | None, sent: str | None, flag: str
) -> None:
    item = replace(
        records()[0].values[0],
        value=Decimal(value),
        reference_low=None if low is None else Decimal(low),
        reference_high=None if high is None else Decimal(high),
        interpretation=sent,
    )
    assert interpretation(item) == flag


def test_a_future_time_never_gives_a_negative_age() -> None:
    record = records()[0]
    late = replace(record.values[0], measured_at=record.cutoff + timedelta(hours=1))
    inputs = to_tensors([replace(record, values=(late,))], vocabulary())
    assert float(inputs.dt_hours.min()) >= 0.0
