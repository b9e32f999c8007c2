"""Long notes: sections, windows, and the rule that chooses among them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fhir_adapters.patient_record import ClinicalNote, Section
from model.inference.note_windows import (
    SECTION_WEIGHT,
    best_windows,
    section_kind,
    text_row,
)
from model.inference.tensors import to_tensors
from model.network.config import preset
from model.network.fusion import TriModalModel
from model.network.inputs import SECTION_KINDS
from tests.model.network_samples import LABELS, records, vocabulary

WORDS = replace(vocabulary(), max_tokens=20, max_windows=2)


def _note(text: str, *sections: Section) -> ClinicalNote:
    return replace(records()[0].notes[0], text=text, sections=sections)


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("family history", "family"),
        ("past medical history", "background"),
        ("history of present illness", "history"),
        ("chief complaint", "complaint"),
        ("assessment and plan", "assessment"),
        ("physical exam", "examination"),
        ("reason for exam", "complaint"),
        ("LABS", "measurement"),
        ("wet read", ""),
    ],
)
def test_a_heading_announces_a_kind_of_section(title: str, kind: str) -> None:
    assert section_kind(title) == kind


def test_every_kind_of_section_has_a_weight() -> None:
    assert set(SECTION_WEIGHT) == set(SECTION_KINDS)


def test_windows_overlap_and_reach_the_end() -> None:
    spans = best_windows([1.0] * 50, 18, 99)
    assert spans == [(0, 18), (9, 27), (18, 36), (27, 45), (36, 50)]
    assert best_windows([1.0] * 300, 126, 99) == [(0, 126), (63, 189), (126, 252)] + [
        (189, 300)
    ]
    assert best_windows([1.0] * 10, 18, 2) == [(0, 10)]


def test_the_heaviest_windows_are_kept_in_the_order_of_the_text() -> None:
    weights = [1.0] * 50
    weights[40:] = [3.0] * 10
    weights[20:25] = [2.0] * 5
    assert best_windows(weights, 18, 2) == [(27, 45), (36, 50)]
    assert best_windows([1.0] * 50, 18, 2) == [(0, 18), (9, 27)], "earlier ones first"


@pytest.mark.component("A22")
def test_a_long_note_is_read_where_its_sections_say_most() -> None:
    filler, told = "cough and fever " * 12, "fever and cough"
    text = filler + told
    start = len(filler)
    note = _note(
        text,
        Section("family history", 0, start),
        Section("impression", start, len(text)),
    )
    row = text_row([note], WORDS)
    assert max(row.window) == 1 and len(row.ids) <= 40
    for window in (0, 1):
        part = [i for i, w in enumerate(row.window) if w == window]
        assert row.ids[part[0]] == WORDS.classifier
        assert row.ids[part[-1]] == WORDS.separator and len(part) <= 20
    assert SECTION_KINDS.index("assessment") in row.section
    assert any(text[s:e] == "cough" and s > start for s, e in zip(row.start, row.end))
    one = text_row([note], replace(WORDS, max_windows=1))
    assert len(one.ids) == 20 and set(one.window) == {0}


def test_a_note_that_fits_is_read_as_ever() -> None:
    note = _note("fever and cough")
    several, one = (text_row([note], replace(WORDS, max_windows=n)) for n in (2, 1))
    assert several == one and len(one.ids) == 5
    assert text_row([_note("  ")], WORDS).ids == []
    assert text_row([], WORDS).ids == []


@torch.no_grad()
def test_windows_reach_the_network_and_keep_their_offsets() -> None:
    words = replace(vocabulary(), max_tokens=20, max_windows=2)
    sizes = preset(
        "tiny", vocabulary=len(words.pieces), codes=len(words.codes), labels=LABELS
    )
    text = replace(sizes.text, max_tokens=20, windows=2, sections=True)
    model = TriModalModel(replace(sizes, text=text)).eval()
    inputs = to_tensors(records()[:3], words)
    assert int(inputs.window.max()) == 1 and inputs.input_ids.shape[1] <= 40
    assert torch.isfinite(model(inputs).logits).all()
    part = inputs.select([2, 0])
    assert part.window.shape == part.section.shape == part.input_ids.shape
