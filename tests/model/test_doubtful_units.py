"""Values that look like another unit's: four questions, and no false alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

from fhir_adapters.patient_record import (
    CodedValue,
    Modality,
    ModalityStatus,
    PatientRecord,
)
from model.inference.code_statistics import other_factors
from model.inference.doubtful_units import (
    REASON,
    decimals,
    doubt,
    without_doubtful_units,
)
from model.inference.vocabulary import InputVocabulary
from model.synthetic.latents import Split
from model.training.synthetic_set import synthetic_cases, synthetic_set

CRP, WBC, SPO2, BNP, GLUCOSE, NEUTROPHILS, LYMPHOCYTES, EOSINOPHILS = (
    *("1988-5", "6690-2", "59408-5", "30934-4", "2345-7", "770-8", "736-9", "713-8"),
)


@cache
def drawn(n: int, seed: int, split: Split) -> tuple[PatientRecord, ...]:
    return tuple(
        synthetic_set(synthetic_cases(n, seed, split=split, image_size=32)).records
    )


@pytest.fixture(scope="module")
def words() -> InputVocabulary:
    training = drawn(1500, 7, Split.TRAIN)
    return InputVocabulary.fit(training, image_size=32, max_tokens=64).watching(
        training
    )


def value(loinc: str, number: str, **more: object) -> CodedValue:
    """A value of a synthetic record with another number and no flag."""
    for record in drawn(20, 31, Split.TEST):
        for item in record.values:
            if item.loinc == loinc:
                plain = replace(item, value=Decimal(number), interpretation=None)
                return replace(plain, **more)
    raise AssertionError(loinc)


def asked(item: CodedValue, words: InputVocabulary, *beside: CodedValue) -> str:
    return doubt(item, (item, *beside), words)


def test_factors_of_other_units_leave_out_formulas_and_synonyms() -> None:
    assert other_factors(CRP) == (10.0,)
    assert other_factors(BNP) == (3.464,), "ng/L is pg/mL under another name"
    assert other_factors("8310-5") == () and other_factors("0000-0") == ()


def test_decimals_of_a_number() -> None:
    assert [decimals(Decimal(x)) for x in ("5", "5.40", "0.005", "1E+2")] == [
        *(0, 1, 3, 0)
    ]


@pytest.mark.parametrize(
    ("loinc", "number", "why"),
    [
        (NEUTROPHILS, "0.661", "range"),
        (LYMPHOCYTES, "0.051", "range"),
        (GLUCOSE, "11.5", "range"),
        (CRP, "5.92", "fineness"),
        (EOSINOPHILS, "0.142", "fineness"),
        (BNP, str(Decimal(435) / Decimal("3.464")), "fineness"),
    ],
)
@pytest.mark.component("A27")
def test_a_number_of_another_unit_is_doubted(
    loinc: str, number: str, why: str, words: InputVocabulary
) -> None:
    assert asked(value(loinc, number), words) == why


@pytest.mark.component("A27")
@pytest.mark.xfail(strict=True, reason="126 pg/mL is as usual as 126 pmol/L")
def test_a_rounded_number_that_is_usual_in_both_units_is_doubted(
    words: InputVocabulary,
) -> None:
    assert asked(value(BNP, "126"), words)


def test_a_flag_that_contradicts_its_range_tells(words: InputVocabulary) -> None:
    high = {"interpretation": "H", "reference_high": Decimal(100)}
    assert asked(value(BNP, "50", **high), words) == "flag"
    assert asked(value(BNP, "126", **high), words) == "", "high in both units"
    nothing = {"interpretation": "H", "reference_high": None, "reference_low": None}
    assert asked(value(BNP, "50", **nothing), words) == ""
    low = {"interpretation": "L", "reference_low": Decimal(20)}
    assert asked(value(CRP, "30", **low), words) == "", "low in neither unit"
    normal = {"interpretation": "N", "reference_high": Decimal(10)}
    assert asked(value(CRP, "3.0", **normal), words) == ""


def test_company_tells_where_the_number_alone_does_not(words: InputVocabulary) -> None:
    ill = (value(WBC, "11.5"), value(SPO2, "94"))
    well = (value(WBC, "6.5"), value(SPO2, "98"))
    assert {(c.loinc, c.other) for c in words.company} >= {(CRP, WBC), (CRP, SPO2)}
    assert asked(value(CRP, "4.0"), words, *ill) == "company"
    assert asked(value(CRP, "4.0"), words, *well) == ""
    assert asked(value(CRP, "4.0"), words) == "", "alone nothing tells"
    assert asked(value(CRP, "40.0"), words, *ill) == ""


def test_what_cannot_be_judged_is_left_alone(words: InputVocabulary) -> None:
    old = replace(words, codes=tuple(replace(c, decimals=None) for c in words.codes))
    assert asked(value(NEUTROPHILS, "0.661"), old) == ""
    unknown = replace(value(CRP, "5.92"), loinc="9999-9")
    assert asked(unknown, words) == ""
    assert asked(value(CRP, "5.92", unit="mg/dL"), words) == ""
    converted = value(CRP, "59.23", source_unit="mg/dL")
    assert asked(converted, words) == "", "digits of a conversion are no sign"


def test_plain_records_raise_no_doubt(words: InputVocabulary) -> None:
    records = drawn(400, 2026, Split.TEST)
    changed = [r for r in records if without_doubtful_units(r, words) is not r]
    assert len(changed) <= 1


def test_the_record_says_what_was_left_out(words: InputVocabulary) -> None:
    record = drawn(20, 31, Split.TEST)[0]
    wrong = value(NEUTROPHILS, "0.661")
    kept = tuple(v for v in record.values if v.loinc != NEUTROPHILS)
    found = without_doubtful_units(replace(record, values=(wrong, *kept)), words)
    assert found.values == kept and found.states == record.states
    (skip,) = found.skipped
    assert (skip.reason, skip.detail) == (REASON, f"{NEUTROPHILS} range")
    alone = without_doubtful_units(replace(record, values=(wrong,)), words)
    assert alone.states[Modality.VALUES].status is ModalityStatus.UNREADABLE


def test_statistics_travel_with_the_checkpoint(
    words: InputVocabulary, tmp_path: Path
) -> None:
    words.save(tmp_path)
    again = InputVocabulary.load(tmp_path)
    assert again == words and again.known_pairs == words.known_pairs


def test_few_records_tell_nothing_of_company() -> None:
    some: Sequence[PatientRecord] = drawn(60, 7, Split.TRAIN)
    fitted = InputVocabulary.fit(some, image_size=32, max_tokens=64)
    assert fitted.company == () and fitted.watching(some).company == ()
