"""Image maps: in the film's own pixels, the same in eight threads, blank on normals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from fhir_adapters.patient_record import PatientRecord
from model.explain.asked import Asked
from model.explain.native_pixels import on_pixels, peak_pixel
from model.inference.abstention import AbstentionPolicy
from model.inference.predictor import Predictor
from model.inference.weights import LoadedCheckpoint
from model.jobs.explanation import Explanation
from model.settings import DEMO_CHECKPOINT
from model.synthetic.case import SynthCase
from model.synthetic.emit import to_record

ZOOM = 4
# Columns cut off at either side: a narrow film is padded at its sides to be read.
CUTS = {"square": 0, "narrow": 16}


def rescanned(case: SynthCase, cut: int) -> tuple[PatientRecord, np.ndarray]:
    """The film four times as large, cut at both sides, and its lesion."""
    kept = slice(cut, case.image.shape[1] * ZOOM - cut)
    zoomed = np.kron(case.image, np.ones((ZOOM, ZOOM), np.float32))[:, kept]
    lesion = np.kron(case.mask, np.ones((ZOOM, ZOOM), dtype=bool))[:, kept]
    record = to_record(case)
    film = replace(record.images[0], pixels=zoomed)
    return replace(record, images=(film,)), lesion


@pytest.mark.component("A16")
@pytest.mark.parametrize("film", sorted(CUTS))
def test_the_peak_lies_on_the_lesion_in_the_pixels_of_the_film(
    demo: LoadedCheckpoint, drawn: list[SynthCase], film: str
) -> None:
    # A narrow film is unlike those learnt from, and would be refused.
    policy = AbstentionPolicy(max_age_days=0, max_distance=100.0)
    predictor = Predictor.of(demo, policy)
    hits = []
    for case in drawn:
        if not (case.label and case.mask.any()) or len(hits) == 7:
            continue
        record, lesion = rescanned(case, CUTS[film])
        prediction, explanation = predictor.assess(record)
        if explanation is None or explanation.heat_maps[0].blank:
            continue
        heat_map = explanation.heat_maps[0]
        rows, columns = lesion.shape
        assert on_pixels(heat_map, rows, columns).shape == lesion.shape
        row, column = peak_pixel(heat_map, rows, columns)
        # Half a patch of the letterboxed film: what the grid can tell.
        reach = max(rows, columns) // 16
        near = lesion[
            max(0, row - reach) : row + reach, max(0, column - reach) : column + reach
        ]
        hits.append(bool(near.any()))
    assert len(hits) >= 6
    assert np.mean(hits) >= 0.85


@pytest.mark.component("A16")
def test_eight_threads_draw_the_maps_that_one_draws(drawn: list[SynthCase]) -> None:
    predictor = Predictor(
        DEMO_CHECKPOINT,
        "cpu",
        threads=1,
        policy=AbstentionPolicy(max_age_days=0),
        thorough=False,
    )
    records = [to_record(case) for case in drawn[:8]]
    alone = [predictor.assess(record)[1] for record in records]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda record: predictor.assess(record)[1], records))
    assert sum(found is not None for found in alone) >= 6
    for one, other in zip(alone, together):
        assert _published(one) == _published(other)


def _published(explanation: Explanation | None) -> object:
    """Everything but the prediction's id, which differs on purpose."""
    if explanation is None:
        return None
    return replace(explanation, narrative=())


@pytest.mark.component("A16")
def test_a_normal_films_map_is_blank_and_a_lesions_is_not(
    predictor: Predictor,
    ill: tuple[SynthCase, Asked],
    plain: tuple[SynthCase, Asked],
) -> None:
    shown = predictor.explain(to_record(ill[0])).heat_maps[0]
    blank = predictor.explain(to_record(plain[0])).heat_maps[0]
    assert not shown.blank and blank.blank
    assert blank.peak >= 0  # published all the same
