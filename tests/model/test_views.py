"""Films of several studies, and slices of a volume as views."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from fhir_adapters.patient_record import ChestImage, PatientRecord
from model.errors import ConfigurationError
from model.inference.tensors import to_tensors
from model.inference.views import chosen_views, slices_of, with_slices
from model.network.config import preset
from model.network.fusion import TriModalModel
from model.network.inputs import VIEW_KINDS
from tests.model.network_samples import LABELS, batch, records, vocabulary


def _film(name: str, view: str | None, study: str, day: int | None) -> ChestImage:
    film = records()[0].images[0]
    taken = None if day is None else datetime(2026, 1, day, tzinfo=UTC)
    return replace(
        film,
        view=view,
        study_uid=study,
        acquired_at=taken,
        provenance=replace(film.provenance, reference=name),
    )


def _record(*films: ChestImage) -> PatientRecord:
    return replace(records()[0], images=films)


FILMS = (
    _film("old-lateral", "LATERAL", "old", 2),
    _film("old", "AP", "old", 2),
    _film("older", "PA", "older", 1),
    _film("oblique", "OBLIQUE", "now", 11),
    _film("lateral", "LL", "now", 11),
    _film("now", "PA", "now", 11),
)


@pytest.mark.component("A1")
def test_current_frontal_then_lateral_then_priors_newest_first() -> None:
    chosen = chosen_views(_record(*FILMS), 6)
    assert [v.image.provenance.reference for v in chosen] == [
        *("now", "lateral", "oblique", "old", "older", "old-lateral"),
    ]
    assert [v.kind for v in chosen] == [
        *("frontal", "lateral", "other", "prior", "prior", "prior"),
    ]
    assert [v.days for v in chosen] == pytest.approx([0, 0, 0, 9, 10, 9])
    assert len(chosen_views(_record(*FILMS), 2)) == 2


def test_a_newer_film_of_another_study_is_no_prior() -> None:
    newer = _film("newer", "LATERAL", "next", 20)
    view = chosen_views(_record(FILMS[5], newer), 2)[1]
    assert (view.kind, view.days) == ("lateral", 0.0)


def test_a_film_without_a_date_counts_as_oldest() -> None:
    undated = _film("undated", "PA", "unknown", None)
    first, second = chosen_views(_record(undated, FILMS[5]), 2)
    assert first.image is FILMS[5] and (second.kind, second.days) == ("prior", 0.0)
    assert chosen_views(_record(), 3) == ()


def test_the_order_of_the_record_does_not_change_the_choice() -> None:
    turned = _record(*reversed(FILMS))
    names = [v.image.provenance.reference for v in chosen_views(turned, 6)]
    assert names == [
        v.image.provenance.reference for v in chosen_views(_record(*FILMS), 6)
    ]


@torch.no_grad()
def test_views_reach_the_tensors_with_kind_and_age() -> None:
    words = replace(vocabulary(), max_views=4)
    inputs = to_tensors([_record(*FILMS), records()[1]], words)
    assert inputs.pixels.shape[:2] == (2, 4)
    assert inputs.pixel_mask.sum(1).tolist() == [4, 1]
    kinds = [VIEW_KINDS[k] for k in inputs.view_kind[0].tolist()]
    assert kinds == ["frontal", "lateral", "other", "prior"]
    assert inputs.view_dt[0].tolist() == pytest.approx([0, 0, 0, 9])
    assert inputs.image_ids[0] == ("now", "lateral", "oblique", "old")
    fewer = to_tensors([records()[1]], words)
    assert fewer.pixels.shape[1] == 1, "no memory for views that nobody has"


def test_slices_are_evenly_spaced_and_keep_their_brightness() -> None:
    volume = np.stack([np.full((20, 10), 10.0 * i) for i in range(9)])
    found = slices_of(volume, window=(40.0, 80.0), views=3, size=16)
    assert found.index == (1, 4, 7) and found.pixels.shape == (3, 1, 16, 16)
    assert found.place.tolist() == pytest.approx([1 / 8, 4 / 8, 7 / 8])
    middle = found.pixels[:, 0, 8, 8]
    assert middle[0] < middle[1] < middle[2]
    assert found.box[0].tolist() == pytest.approx([-0.5, 0.0, 2.0, 1.0])
    short = slices_of(volume[:2], window=(40.0, 80.0), views=3, size=16)
    assert short.index == (0, 1)


@pytest.mark.parametrize(
    ("shape", "window", "views"),
    [((4, 4), (0.0, 1.0), 1), ((2, 4, 4), (0.0, 0.0), 1), ((2, 4, 4), (0.0, 1.0), 0)],
)
def test_what_is_no_volume_is_refused(
    shape: tuple[int, ...], window: tuple[float, float], views: int
) -> None:
    with pytest.raises(ConfigurationError):
        slices_of(np.zeros(shape), window=window, views=views, size=8)


@pytest.mark.component("A1")
@torch.no_grad()
def test_ct_and_mr_slices_run_through_the_same_encoder() -> None:
    words = vocabulary()
    sizes = preset(
        "tiny", vocabulary=len(words.pieces), codes=len(words.codes), labels=LABELS
    )
    model = TriModalModel(replace(sizes, image=replace(sizes.image, views=4))).eval()
    volume = np.random.default_rng(0).normal(-600, 300, (12, 40, 40))
    ct = slices_of(volume, window=(-600.0, 1500.0), views=4, size=64)
    mr = slices_of(np.abs(volume[:2]), window=(500.0, 1000.0), views=4, size=64)
    plain = batch(records()[:2])
    inputs = with_slices(plain, [(ct, "ImagingStudy/ct"), (mr, "ImagingStudy/mr")])
    tokens, mask = model.encode_modality(inputs, 0)
    assert tokens.shape == (2, 4 * 64, 64) and mask.sum(1).tolist() == [256, 128]
    assert torch.isfinite(model(inputs).logits).all()
    assert inputs.image_ids[1] == ("ImagingStudy/mr#0", "ImagingStudy/mr#1")
    assert inputs.view_kind.unique().tolist() == [VIEW_KINDS.index("slice")]
    with pytest.raises(ConfigurationError):
        with_slices(plain, [(ct, "x")])
