"""Films of synthetic cases: lesion where the mask says, states told apart."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from model.synthetic.case import Distractor, Film, Lobe, Side
from model.synthetic.latents import ImagePattern, Severity
from model.synthetic.render import DENSITY, RADIUS, render_film

Image = NDArray[np.float32]


def film(
    severity: Severity,
    pattern: ImagePattern,
    lobe: Lobe,
    seed: int = 0,
    size: int = 64,
    distractors: float = 0.0,
) -> Film:
    rng = np.random.default_rng(seed)
    return render_film(severity, pattern, lobe, rng, size, distractors)


def mask_centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()) / mask.shape[1], float(rows.mean()) / mask.shape[0]


@pytest.mark.parametrize("size", [32, 64, 224])
def test_film_is_a_grey_image_of_the_asked_size(size: int) -> None:
    made = film(Severity.HIGH, ImagePattern.RING, Lobe.LEFT_UPPER, size=size)
    assert made.image.shape == made.mask.shape == (size, size)
    assert made.image.dtype == np.float32 and made.mask.dtype == np.bool_
    assert 0.0 <= made.image.min() and made.image.max() <= 1.0
    assert made.image.std() > 0.1


@pytest.mark.parametrize("size", [31, 225])
def test_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="not within 32-224"):
        film(Severity.LOW, ImagePattern.SOLID, Lobe.LEFT_UPPER, size=size)


@pytest.mark.parametrize("lobe", list(Lobe))
def test_mask_lies_in_its_lobe_with_the_patients_right_on_the_left(lobe: Lobe) -> None:
    for seed in range(20):
        made = film(Severity.HIGH, ImagePattern.SOLID, lobe, seed)
        x, y = mask_centre(made.mask)
        assert (x < 0.5) is (lobe.side is Side.RIGHT)
        assert (y < 0.45) is (lobe.level == "upper")
        assert (y > 0.5) is (lobe.level == "lower") or lobe.level == "middle"


@pytest.mark.parametrize(("severity", "pattern"), [*product(Severity, ImagePattern)])
def test_the_lesion_changes_the_film_inside_its_mask(
    severity: Severity, pattern: ImagePattern
) -> None:
    """Two films of one random stream differ by the lesion and by nothing else."""
    lobe = Lobe.RIGHT_MIDDLE
    other = ImagePattern((pattern + 1) % 3)
    for seed in range(10):
        one = film(severity, pattern, lobe, seed)
        with_other_contrast = film(Severity((severity + 1) % 3), pattern, lobe, seed)
        change = np.abs(one.image - with_other_contrast.image)
        union = one.mask | with_other_contrast.mask
        inside, outside = change[union], change[~union]
        assert inside.mean() > 8 * outside.mean()
        assert film(severity, other, lobe, seed).mask.any()


def test_radius_and_contrast_grow_with_severity() -> None:
    areas, contrasts = [], []
    for severity in Severity:
        made = [
            film(severity, ImagePattern.SOLID, lobe, seed)
            for lobe, seed in product(Lobe, range(8))
        ]
        areas.append([f.mask.sum() for f in made])
        contrasts.append(
            np.mean([f.image[f.mask].mean() - np.median(f.image) for f in made])
        )
    assert max(areas[0]) < min(areas[1]) and max(areas[1]) < min(areas[2])
    assert contrasts[0] < contrasts[1] < contrasts[2]
    assert list(RADIUS) == list(DENSITY) == list(Severity)


def lesion_profile(made: Film) -> tuple[float, float]:
    """Brightness of the lesion's core against its rim, and its fine unevenness.

    Unevenness compares points half a reticular period apart, both ways.
    """
    size = made.image.shape[0]
    x, y = mask_centre(made.mask)
    radius = (made.mask.sum() / np.pi) ** 0.5 / 1.1
    rows, columns = np.mgrid[:size, :size] + 0.5
    distance = np.hypot(rows - y * size, columns - x * size) / radius
    rim = made.image[(distance > 0.6) & (distance < 0.9)]
    core = made.image[distance < 0.4]
    lag = round(0.033 * size)
    inside = distance < 0.75
    across = np.abs(np.roll(made.image, lag, axis=1) - made.image)[inside].mean()
    down = np.abs(np.roll(made.image, lag, axis=0) - made.image)[inside].mean()
    return float(core.mean() - rim.mean()), float(min(across, down))


def test_an_oracle_tells_the_patterns_apart() -> None:
    right = []
    states = product(Severity, ImagePattern, Lobe, range(8))
    for severity, pattern, lobe, seed in states:
        core, uneven = lesion_profile(film(severity, pattern, lobe, seed, 128))
        if core < -0.12 and core < -1.4 * uneven:
            said = ImagePattern.RING
        else:
            said = ImagePattern.RETICULAR if uneven > 0.078 else ImagePattern.SOLID
        right.append(said is pattern)
    assert np.mean(right) >= 0.985


def test_distractors_are_listed_and_can_be_switched_off() -> None:
    none = [
        film(Severity.LOW, ImagePattern.SOLID, Lobe.LEFT_LOWER, s) for s in range(9)
    ]
    assert all(f.distractors == () for f in none)
    every = film(Severity.LOW, ImagePattern.SOLID, Lobe.LEFT_LOWER, 3, distractors=1.0)
    assert every.distractors == tuple(Distractor)
    assert every.image.max() > 0.9


def test_distractors_come_at_their_rate_whatever_the_severity() -> None:
    rng = np.random.default_rng(5)
    for severity in (Severity.LOW, Severity.HIGH):
        found = [
            render_film(
                severity, ImagePattern.SOLID, Lobe.LEFT_LOWER, rng, 32, 0.15
            ).distractors
            for _ in range(1500)
        ]
        for distractor in Distractor:
            rate = np.mean([distractor in one for one in found])
            assert rate == pytest.approx(0.15, abs=0.04)


def test_a_thousand_films_render_in_a_few_seconds() -> None:
    start = time.process_time()
    for seed in range(200):
        film(Severity(seed % 3), ImagePattern(seed % 3), Lobe.LEFT_LOWER, seed)
    assert time.process_time() - start < 200 * 0.006
