"""Large films are reduced by known means before they cross the queue; others not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fhir_adapters.patient_record import ChestImage, PatientRecord
from model.jobs.film_size import fit_films
from tests.model.job_samples import record


def film(height: int, width: int) -> ChestImage:
    """A film of random pixels."""
    pixels = np.random.default_rng(1).random((height, width), dtype=np.float32)
    return replace(record().images[0], pixels=pixels)


def with_films(*films: ChestImage) -> PatientRecord:
    """The sample with these films."""
    return record(images=films)


def test_a_small_film_is_left_as_it_is() -> None:
    case = with_films(film(64, 32))
    assert fit_films(case, 64) is case


@pytest.mark.parametrize(
    "shape,expected", [((128, 64), (64, 32)), ((130, 64), (44, 22)), ((65, 1), (33, 1))]
)
def test_a_large_film_fits_and_keeps_its_proportions(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    (found,) = fit_films(with_films(film(*shape)), 64).images
    assert found.pixels.shape == expected
    assert found.pixels.dtype == np.float32


def test_each_pixel_is_the_mean_of_its_square() -> None:
    large = film(8, 12)
    (found,) = fit_films(with_films(large), 6).images
    means = large.pixels.reshape(4, 2, 6, 2).mean((1, 3))
    np.testing.assert_allclose(found.pixels, means, atol=1e-6)
    assert 0 <= found.pixels.min() and found.pixels.max() <= 1


def test_the_step_is_recorded_and_the_source_stays() -> None:
    large, small = film(200, 200), film(10, 10)
    reduced, same = fit_films(with_films(large, small), 100).images
    assert reduced.transforms == ("voi-window", "mean 2x2")
    assert reduced.provenance == large.provenance
    assert same is small


def test_the_result_key_does_not_change() -> None:
    case = with_films(film(200, 200))
    assert fit_films(case, 50).evidence_sha256() == case.evidence_sha256()
