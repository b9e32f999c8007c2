"""Heat maps: per patch, on the native film, blank below the evidence floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fhir_adapters.patient_record import Modality
from model.explain.attribution import (
    CoalitionValues,
    Question,
    coalition_values,
    image_path_gradient,
    shapley,
)
from model.explain.grad_cam import (
    evidence_floor,
    film_raised,
    film_shares,
    heat_maps,
    relevance_map,
)
from model.explain.zones import mass_centre, zone_words
from model.inference.tensors import to_tensors
from model.inference.weights import LoadedCheckpoint, load_checkpoint
from model.jobs.explanation import HeatMap
from tests.model.checkpoint_samples import calibration, cases, write_checkpoint
from tests.model.test_explain_attribution import question, without

RECORDS = cases(24)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedCheckpoint:
    """An untrained checkpoint."""
    torch.set_num_threads(1)
    folder = write_checkpoint(tmp_path_factory.mktemp("model") / "untrained", RECORDS)
    return load_checkpoint(folder)


def maps_of(asked: Question, *, blank: bool = False) -> tuple[HeatMap, ...]:
    """The heat maps of a question."""
    return heat_maps(asked, image_path_gradient(asked), blank=blank)


def drawn(
    cells: dict[tuple[int, int], float],
    box: tuple[float, float, float, float] = (0, 0, 1, 1),
    size: int = 8,
) -> HeatMap:
    """A map with these (row, column) cells."""
    grid = [[0.0] * size for _ in range(size)]
    for (row, column), value in cells.items():
        grid[row][column] = value
    peak = max(cells.values(), default=0.0)
    return HeatMap("ImagingStudy/i", tuple(map(tuple, grid)), box, peak, False)


def test_a_map_is_rows_of_patches_with_its_raw_peak(loaded: LoadedCheckpoint) -> None:
    for record in RECORDS[:6]:
        (found,) = maps_of(question(loaded, record))
        assert found.reference == record.images[0].provenance.reference
        assert len(found.grid) == 8 and all(len(row) == 8 for row in found.grid)
        cells = [cell for row in found.grid for cell in row]
        assert min(cells) >= 0
        assert max(cells) == pytest.approx(found.peak, abs=1e-6)
        assert found.box == (0.0, 0.0, 1.0, 1.0)


def test_maps_repeat_themselves_exactly(loaded: LoadedCheckpoint) -> None:
    asked = question(loaded, RECORDS[0])
    assert maps_of(asked) == maps_of(asked)


def test_the_letterbox_is_undone_in_the_maps_box(loaded: LoadedCheckpoint) -> None:
    film = RECORDS[0].images[0]
    wide = replace(film, pixels=np.tile(film.pixels, (1, 2)))
    (found,) = maps_of(question(loaded, replace(RECORDS[0], images=(wide,))))
    left, top, width, height = found.box
    assert (left, width) == (0.0, 1.0)
    assert (top, height) == (pytest.approx(-0.5), pytest.approx(2.0))


def test_no_film_gives_no_map(loaded: LoadedCheckpoint) -> None:
    assert maps_of(question(loaded, without(RECORDS[0], Modality.IMAGE))) == ()


def game(share: float) -> tuple[float, ...]:
    """Coalition values in which the film is worth ``share`` and nothing else counts."""
    return tuple(share * (coalition & 1) for coalition in range(8))


@pytest.mark.parametrize(
    "raw,shown,floor,raised",
    [
        (0.5, 0.5, 0.4, True),
        (0.4, 0.5, 0.4, False),
        (0.1, 0.1, 0.0, True),
        (0.5, -0.1, 0.0, False),  # the share beside the map says the opposite
        (-0.1, 0.1, -5.0, False),
    ],
)
def test_a_film_counts_when_it_raised_the_estimate_above_the_floor(
    loaded: LoadedCheckpoint, raw: float, shown: float, floor: float, raised: bool
) -> None:
    asked = replace(
        question(loaded, RECORDS[0]), calibration=calibration(map_floor=floor)
    )
    values = CoalitionValues(game(raw), game(shown), game(shown))
    assert film_raised(asked, values) is raised


def test_a_floor_of_another_label_does_not_count(loaded: LoadedCheckpoint) -> None:
    other = replace(calibration(), map_floor={"effusion": 1e9})
    asked = replace(question(loaded, RECORDS[0]), calibration=other)
    assert film_raised(asked, CoalitionValues(game(0.1), game(0.1), game(0.1)))


def test_a_blank_map_still_publishes_its_peak(loaded: LoadedCheckpoint) -> None:
    asked = question(loaded, RECORDS[0])
    (shown,), (blank,) = maps_of(asked), maps_of(asked, blank=True)
    assert blank.blank and not shown.blank
    assert blank.peak == shown.peak > 0


def test_shares_for_the_floor_are_those_of_the_explanation(
    loaded: LoadedCheckpoint,
) -> None:
    records = [*RECORDS[:4], without(RECORDS[4], Modality.IMAGE)]
    inputs = to_tensors(records, loaded.vocabulary)
    with torch.no_grad():
        tokens = loaded.model.encode(inputs)
    shares = film_shares(loaded.model, tokens, inputs.present, 0).tolist()
    for record, share in zip(records, shares):
        alone = shapley(coalition_values(question(loaded, record)).raw)[0]
        assert share == pytest.approx(alone, abs=1e-4)
    assert shares[4] == pytest.approx(0, abs=1e-6)


def test_the_floor_is_the_95th_percentile_and_never_negative() -> None:
    assert evidence_floor([float(n) for n in range(101)]) == pytest.approx(95.0)
    assert evidence_floor(torch.tensor([2.0])) == 2.0
    assert evidence_floor([-3.0, -2.0]) == 0.0
    assert evidence_floor([]) == 0.0


def test_each_patch_keeps_its_own_gradient() -> None:
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]]])
    gradient = torch.tensor([[[1.0, 1.0], [-1.0, 5.0], [2.0, 0.0]]])
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    assert relevance_map(tokens, gradient, everywhere).tolist() == [[3.0, 0.0, 2.0]]
    masked = torch.tensor([[False, True, True]])
    assert relevance_map(tokens, gradient, masked).tolist() == [[0.0, 0.0, 2.0]]


@pytest.mark.parametrize(
    "cell,words",
    [
        # The image's left is the patient's right.
        ((7, 1), "right lower zone"),
        ((7, 6), "left lower zone"),
        ((0, 1), "right upper zone"),
        ((3, 6), "left upper to middle zone"),
        ((4, 6), "left middle to lower zone"),
    ],
)
def test_a_place_is_named_from_the_patients_side(
    cell: tuple[int, int], words: str
) -> None:
    assert zone_words(drawn({cell: 2.0}), "PA") == words
    assert zone_words(drawn({cell: 2.0}), "ap") == words


def test_a_place_without_a_known_view_has_no_side() -> None:
    assert zone_words(drawn({(7, 1): 2.0}), None) == "lower zone of the image"


def test_a_place_on_the_midline_is_on_no_side() -> None:
    both = drawn({(0, 3): 1.0, (0, 4): 1.0})
    assert zone_words(both, "PA") == "upper zone near the midline"


def test_weak_cells_do_not_move_the_centre() -> None:
    weak = {(row, 7): 0.4 for row in range(8)}
    assert mass_centre(drawn({(7, 0): 1.0, **weak})) == (0.0625, 0.9375)


def test_the_centre_is_on_the_native_film() -> None:
    # A film twice as wide as high: the grid's upper quarter is padding.
    assert mass_centre(drawn({(2, 0): 1.0}, (0, -0.5, 1, 2))) == (0.0625, 0.125)


def test_an_empty_map_has_no_centre_and_no_words() -> None:
    assert mass_centre(drawn({})) is None
    assert zone_words(drawn({}), "PA") is None


def test_a_centre_between_the_bounds_is_in_the_middle() -> None:
    between = drawn({(3, 1): 1.0, (4, 1): 0.8})
    assert zone_words(between, "PA") == "right middle zone"
