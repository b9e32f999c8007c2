"""Measurements: known codes, sensor windows, what was expected and not measured."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from fhir_adapters.assemble import assemble
from fhir_adapters.patient_record import CodedValue, PatientRecord
from model.inference.code_statistics import expected_codes
from model.inference.tensors import to_tensors
from model.inference.value_rows import sensor_window, values_row
from model.inference.vocabulary import CodeStatistic, InputVocabulary
from model.network.config import ValuesConfig, preset
from model.network.fusion import TriModalModel
from model.network.inputs import ABSENT, FLAGS, KINDS
from model.network.structured_encoder import StructuredEncoder
from tests.fhir_adapters.fhir_samples import (
    CUTOFF,
    concept,
    observation,
    patient,
    quantity,
    received,
)
from tests.model.network_samples import LABELS, records, vocabulary

INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"

GLUCOSE, SATURATION, CHOLESTEROL = "2345-7", "59408-5", "2093-3"
THREE = (GLUCOSE, SATURATION, CHOLESTEROL)


def _value(loinc: str, value: str, hours: float = 1.0) -> CodedValue:
    record = records()[0]
    item = record.values[0]
    reference = f"Observation/{loinc}-{hours}"
    return replace(
        item,
        loinc=loinc,
        value=Decimal(value),
        measured_at=record.cutoff - timedelta(hours=hours),
        provenance=replace(item.provenance, reference=reference),
    )


def _record(*values: CodedValue, history: tuple[CodedValue, ...] = ()) -> PatientRecord:
    return replace(records()[0], values=values, history=history)


def _words(**changes: object) -> InputVocabulary:
    edges = tuple(np.linspace(-2, 2, 9))
    codes = tuple(
        CodeStatistic(loinc, kind, median, iqr, edges)
        for loinc, kind, median, iqr in (
            (GLUCOSE, "lab", 100.0, 20.0),
            (SATURATION, "vital", 96.0, 2.0),
            (CHOLESTEROL, "lab", 190.0, 40.0),
        )
    )
    known = {c.loinc: c for c in vocabulary().codes if c.kind == "demo"}
    codes += tuple(known.values())
    settings = {"codes": codes, **changes}
    return replace(vocabulary(), **settings)  # type: ignore[arg-type]


FIXTURE = _record(
    _value(GLUCOSE, "140"), _value(SATURATION, "92", 2.0), _value(CHOLESTEROL, "190")
)


@pytest.mark.component("A6")
@pytest.mark.component("A22")
def test_glucose_saturation_and_cholesterol_are_tokens_on_their_own_scale() -> None:
    words = _words()
    inputs = to_tensors([FIXTURE, FIXTURE], words)
    assert inputs.code[0, :3].tolist() == [0, 1, 2]
    assert inputs.value_ids[0][0] == f"Observation/{GLUCOSE}-1.0"
    assert inputs.dt_hours[0, :3].tolist() == pytest.approx([1.0, 2.0, 1.0])
    kinds = [KINDS[k] for k in inputs.kind[0, :3].tolist()]
    assert kinds == ["lab", "vital", "lab"]
    middle = [1.0] * 4 + [0.0] * 4  # exactly the median: half of the bins are full
    assert inputs.value[0, 2].tolist() == pytest.approx(middle)
    assert inputs.value[0, 0].sum() > 4 > inputs.value[0, 1].sum()
    assert torch.equal(inputs.value[0], inputs.value[1])


def _chart(*rows: dict[str, Any]) -> PatientRecord:
    return assemble(patient(), received(*rows), (), cutoff=CUTOFF)


def _row(loinc: str, value: str, unit: str, **more: Any) -> dict[str, Any]:
    amount = quantity(Decimal(value), unit)
    return observation(loinc, value=amount, id=f"o-{loinc}", **more)


@pytest.mark.component("A6")
@torch.no_grad()
def test_rows_of_a_chart_in_any_order_give_the_same_bits() -> None:
    rows = [
        _row(GLUCOSE, "140", "mg/dL"),
        _row(SATURATION, "92", "%"),
        _row(CHOLESTEROL, "240", "mg/dL"),
    ]
    words = _words()
    sizes = preset("tiny", vocabulary=len(words.pieces), codes=5, labels=LABELS)
    model = TriModalModel(sizes).eval()
    first = to_tensors([_chart(*rows)], words)
    assert first.code[0].tolist()[:3] != [0, 0, 0] and first.obs_mask[0].sum() == 5
    for order in permutations(rows):
        again = to_tensors([_chart(*order)], words)
        for name in ("code", "value", "dt_hours", "flag", "kind", "obs_mask"):
            assert torch.equal(getattr(again, name), getattr(first, name)), name
        assert again.value_ids == first.value_ids
        assert torch.equal(model(again).logits, model(first).logits)


@pytest.mark.component("A6")
def test_a_unit_and_a_flag_are_read_before_the_scale() -> None:
    """7.771 mmol/L of glucose is 140 mg/dL; an H is a token's own column."""
    words = _words()
    plain, other, high = (
        to_tensors([_chart(row)], words)
        for row in (
            _row(GLUCOSE, "140", "mg/dL"),
            _row(GLUCOSE, "7.771", "mmol/L"),
            _row(
                GLUCOSE,
                "140",
                "mg/dL",
                interpretation=[concept((INTERPRETATION, "H"))],
            ),
        )
    )
    assert torch.allclose(plain.value, other.value, atol=1e-3)
    assert torch.equal(plain.value, high.value)
    flags = [FLAGS[x.flag[0, 0]] for x in (plain, other, high)]
    assert flags == ["", "", "H"]
    refused = _chart(_row(GLUCOSE, "140", "[lb_av]"))
    assert refused.values == () and not to_tensors([refused], words).present[0, 2]


@pytest.mark.component("A6")
@torch.no_grad()
def test_row_reorder_gives_the_same_tokens_in_another_order() -> None:
    encoder = StructuredEncoder(ValuesConfig(codes=5), 16).eval()
    inputs = to_tensors([FIXTURE], _words())
    parts = [getattr(inputs, n) for n in ("code", "value", "dt_hours", "flag", "kind")]
    order = torch.tensor([2, 0, 1, 4, 3])
    straight = encoder(*parts, inputs.obs_mask)
    turned = encoder(*(x[:, order] for x in parts), inputs.obs_mask)
    assert torch.allclose(turned, straight[:, order], atol=1e-6)


@pytest.mark.component("A6")
def test_an_expected_item_that_was_not_measured_says_just_that() -> None:
    words = _words(expected=THREE)
    inputs = to_tensors([_record(_value(GLUCOSE, "140"))], words)
    flags = inputs.flag[0].tolist()
    assert flags[-2:] == [ABSENT, ABSENT] and flags.count(ABSENT) == 2
    assert inputs.code[0, -2:].tolist() == [1, 2]
    assert (inputs.value[0, -2:] == 0).all()
    assert len(inputs.value_ids[0]) == inputs.code.shape[1] - 2
    nothing = to_tensors([_record(_value("99999-9", "1"))], words)
    assert not nothing.present[0, 2], "absence alone is no evidence"
    full = values_row(_record(_value(GLUCOSE, "140")), replace(words, max_values=3))
    assert len(full.code) == 3


@pytest.mark.component("A6")
@torch.no_grad()
def test_an_absent_item_has_neither_value_nor_age() -> None:
    encoder = StructuredEncoder(ValuesConfig(codes=5, absent=True), 16).eval()
    code, kind = torch.tensor([[1]]), torch.tensor([[0]])
    there = torch.ones(1, 1, dtype=torch.bool)

    def token(value: float, hours: float, flag: int) -> torch.Tensor:
        numbers = torch.full((1, 1, 8), value)
        age, flags = torch.tensor([[hours]]), torch.tensor([[flag]])
        found: torch.Tensor = encoder(code, numbers, age, flags, kind, there)
        return found

    assert torch.equal(token(0.0, 0.0, ABSENT), token(1.0, 9.0, ABSENT))
    assert not torch.allclose(token(0.0, 0.0, ABSENT), token(0.0, 0.0, 0))


def test_a_series_gives_change_minimum_and_maximum() -> None:
    found = sensor_window([4.0, 3.0, 2.0, 1.0], np.array([0.0, 1.0, 2.0, 3.0]))
    assert found.tolist() == pytest.approx([3.0, 0.0, 3.0])
    still = sensor_window([1.0, 1.0], np.array([-9.0, 9.0]))
    assert still.tolist() == [0.0, -5.0, 5.0]


@pytest.mark.component("A6")
@torch.no_grad()
def test_a_sensor_window_is_a_token_with_mean_slope_minimum_and_maximum() -> None:
    words = _words(sensor_hours=6.0)
    series = tuple(_value(GLUCOSE, str(100 + 10 * n), 5.0 - n) for n in range(5))
    old = tuple(_value(SATURATION, "90", 20.0 + n) for n in range(5))
    few = tuple(_value(CHOLESTEROL, "190", 1.0 + n) for n in range(2))
    strange = (_value("99999-9", "1"),)
    record = _record(_value(GLUCOSE, "140"), history=series + old + few + strange)
    inputs = to_tensors([record], words)
    sensors = (inputs.kind[0] == KINDS.index("sensor")).nonzero().flatten().tolist()
    assert sensors == [1] and inputs.value.shape[-1] == 11
    assert inputs.value[0, 1, 8:].tolist() == pytest.approx([2.0, 0.0, 2.0])
    assert (inputs.value[0, 0, 8:] == 0).all()
    assert inputs.value_ids[0][1] == f"Observation/{GLUCOSE}-1.0"
    sizes = preset("tiny", vocabulary=len(words.pieces), codes=5, labels=LABELS)
    values = replace(sizes.values, sensors=True)
    assert values.columns == words.columns
    model = TriModalModel(replace(sizes, values=values)).eval()
    assert torch.isfinite(model(inputs).logits).all()
    full = values_row(record, replace(words, max_values=3))
    assert len(full.ids) == 3, "age and sex keep their places"


def test_codes_that_most_records_have_are_expected() -> None:
    assert expected_codes(records(), None) == ()
    some, most = expected_codes(records(), 0.1), expected_codes(records(), 1.0)
    assert set(most) < set(some) and list(some) == sorted(some)
    fitted = InputVocabulary.fit(
        records(), image_size=64, max_tokens=128, expected_share=0.1, views=2, windows=3
    )
    assert fitted.expected == some
    assert (fitted.max_views, fitted.max_windows) == (2, 3)
