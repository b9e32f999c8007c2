"""Records in another look: the evidence stays, and nothing is shared with the tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from model.errors import ConfigurationError
from model.evaluation import film_shifts, note_probes, note_shifts
from model.synthetic.latents import Split
from model.training import variants
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.training_set import TrainingSet
from model.training.variants import HEADER_LINES, Variety, varied

ALL, NONE = Variety(1, 1, 1), Variety(0, 0, 0)


@cache
def plain() -> TrainingSet:
    return synthetic_set(synthetic_cases(30, 5, split=Split.TRAIN))


def test_the_same_seed_gives_the_same_records_and_no_share_changes_nothing() -> None:
    first, second = varied(plain(), ALL, 3), varied(plain(), ALL, 3)
    for a, b in zip(first.records, second.records):
        assert (a.images[0].pixels == b.images[0].pixels).all()
        assert a.notes == b.notes and a.values == b.values
    other = varied(plain(), ALL, 4)
    assert (other.records[0].images[0].pixels != a.images[0].pixels).any()
    assert list(varied(plain(), NONE, 3).records) == list(plain().records)


def test_truth_stays_and_the_mask_moves_with_its_film() -> None:
    assert plain().lesion_masks is not None
    # films that show nothing but the lesion: wherever it goes, the mask must be
    films = [
        replace(
            record, images=(replace(record.images[0], pixels=mask.astype(np.float32)),)
        )
        for record, mask in zip(plain().records, plain().lesion_masks)
    ]
    data = varied(replace(plain(), records=films), Variety(1, 0, 0), 3)
    assert (data.targets == plain().targets).all()
    assert data.findings == plain().findings and data.lesion_masks is not None
    for row, record in enumerate(data.records):
        pixels, mask = record.images[0].pixels, data.lesion_masks[row]
        assert pixels.dtype == np.float32 and 0 <= pixels.min() <= pixels.max() <= 1
        assert 0.6 <= mask.sum() / plain().lesion_masks[row].sum() <= 1.5
        assert np.median(pixels[mask]) > np.quantile(pixels[~mask], 0.95)
    moved = [(a != b).any() for a, b in zip(data.lesion_masks, plain().lesion_masks)]
    assert np.mean(moved) > 0.9


def test_a_turn_by_nothing_is_the_same_film() -> None:
    pixels = plain().records[0].images[0].pixels
    from PIL import Image

    same = variants._placed(pixels, (0.0, 1.0, 0.0, 0.0), Image.Resampling.BILINEAR)
    assert np.abs(same - pixels)[1:-1, 1:-1].max() < 1e-6
    moved = variants._placed(pixels, (0.0, 1.0, 0.125, 0.0), Image.Resampling.NEAREST)
    assert (moved[:, 8:] == pixels[:, :-8]).all()


def test_planted_passages_are_found_at_their_new_place() -> None:
    data = varied(plain(), Variety(0, 1, 0), 3)
    assert data.evidence is not None and plain().evidence is not None
    headed = 0
    for row, record in enumerate(data.records):
        old, new = plain().records[row].notes[0].text, record.notes[0].text
        headed += new.startswith(HEADER_LINES)
        spans = zip(plain().evidence[row].spans, data.evidence[row].spans)
        for (a, b), (c, d) in spans:
            assert old[a:b].lower() == new[c:d].lower()
        assert record.notes[0].sections and old.lower() in new.lower()
    assert 5 < headed < 28


def test_another_laboratory_keeps_the_numbers_that_it_measures() -> None:
    data = varied(plain(), Variety(0, 0, 1), 3)
    flags = ranges = sparse = 0
    for before, after in zip(plain().records, data.records):
        told = {v.loinc: v for v in before.values}
        assert after.values and after.history == after.values
        assert all(v.value == told[v.loinc].value for v in after.values)
        assert all(v.measured_at <= told[v.loinc].measured_at for v in after.values)
        flags += all(v.interpretation is None for v in after.values)
        ranges += all(v.reference_high is None for v in after.values)
        sparse += len(after.values) < len(before.values)
    assert flags > 10 and ranges > 10 and 5 < sparse < 25


def test_sets_without_masks_or_evidence_and_bare_records_pass() -> None:
    bare = [replace(r, images=(), notes=(), values=()) for r in plain().records]
    data = replace(plain(), records=bare, lesion_masks=None, evidence=None)
    assert varied(data, ALL, 3).records == bare
    films = replace(plain(), lesion_masks=None, evidence=None)
    assert varied(films, ALL, 3).lesion_masks is None


def test_shares_outside_of_0_to_1_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        Variety(film=1.5)


def test_training_and_evaluation_share_no_wording_and_no_code() -> None:
    told = " ".join(HEADER_LINES).lower()
    for sentence in (*note_probes.LEADING, *note_probes.INJECTED):
        assert not note_probes.repeats(told, sentence)
    header = note_shifts.other_site("x", np.random.default_rng(0)).split("\n")[0]
    assert header not in HEADER_LINES
    source = Path(variants.__file__).read_text(encoding="utf-8")
    assert "model.evaluation." not in source.replace("model.evaluation.robustness", "")
    assert film_shifts.DEGREES != variants._DEGREES
