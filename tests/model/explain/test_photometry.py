"""Is this a chest film at all: polarity, noise, body part, and what is usual."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fhir_adapters.patient_record import ChestImage
from model.inference.photometry import (
    BODY_PART_FLAG,
    MARGIN,
    MIN_FILMS,
    QUANTILE,
    FilmReference,
    fit_film_reference,
    likeness,
    neighbour_correlation,
    standard_film,
    wrong_body_part,
)
from tests.model.checkpoint_samples import cases

RECORDS = cases(MIN_FILMS)
FILMS = [record.images[0] for record in RECORDS]


@pytest.fixture(scope="module")
def reference() -> FilmReference:
    found = fit_film_reference(FILMS)
    assert found is not None
    return found


def changed(image: ChestImage, pixels: np.ndarray) -> ChestImage:
    return replace(image, pixels=pixels.astype(np.float32))


def test_films_like_those_learnt_from_are_read(reference: FilmReference) -> None:
    assert {reference.problem(image) for image in FILMS} == {""}


def test_every_negative_is_named(reference: FilmReference) -> None:
    for image in FILMS[:10]:
        assert reference.problem(changed(image, 1 - image.pixels)) == "inverted_image"


def test_noise_is_named_before_its_polarity(reference: FilmReference) -> None:
    noise = np.random.default_rng(2).random((64, 64))
    assert reference.problem(changed(FILMS[0], noise)) == "noise_image"


def test_too_few_films_fit_no_reference() -> None:
    assert fit_film_reference(FILMS[: MIN_FILMS - 1]) is None


def test_limits_are_half_of_what_nearly_all_films_exceed(
    reference: FilmReference,
) -> None:
    like = [likeness(standard_film(film), reference.template) for film in FILMS]
    assert reference.polarity == pytest.approx(
        MARGIN * np.quantile(like, QUANTILE), abs=1e-3
    )
    smooth = [neighbour_correlation(standard_film(film)) for film in FILMS]
    assert reference.smoothness == pytest.approx(
        MARGIN * np.quantile(smooth, QUANTILE), abs=1e-3
    )
    assert 0 < reference.polarity < min(like)


def test_a_limit_is_never_negative() -> None:
    random = np.random.default_rng(4)
    noise = [changed(film, random.random((64, 64))) for film in FILMS]
    found = fit_film_reference(noise)
    assert found is not None and found.smoothness == 0.0


def test_neighbours_are_read_both_ways() -> None:
    stripes = np.tile(np.random.default_rng(3).random(64), (64, 1))
    assert neighbour_correlation(stripes) < 0.5  # smooth downwards only
    ramp = np.add.outer(np.arange(64.0), np.arange(64.0))
    assert neighbour_correlation(ramp) == pytest.approx(1.0)
    assert neighbour_correlation(np.ones((64, 64))) == 0.0  # nothing to correlate


def test_the_same_film_is_judged_the_same_at_any_size(
    reference: FilmReference,
) -> None:
    large = changed(FILMS[0], np.kron(FILMS[0].pixels, np.ones((4, 4))))
    small, great = (
        likeness(standard_film(film), reference.template) for film in (FILMS[0], large)
    )
    assert small == pytest.approx(great, abs=0.02)


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        ((), False),
        ((BODY_PART_FLAG + "CHEST",), False),
        ((BODY_PART_FLAG + " knee ",), True),
        ((BODY_PART_FLAG + "THORAX AP",), False),  # a vendor's word is not called wrong
        (("qc-blank", BODY_PART_FLAG + "PELVIS"), True),
        (("KNEE",), False),
    ],
)
def test_only_a_stated_other_body_part_is_wrong(
    flags: tuple[str, ...], wrong: bool
) -> None:
    assert wrong_body_part(replace(FILMS[0], flags=flags)) is wrong
