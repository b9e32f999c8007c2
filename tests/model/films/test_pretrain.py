"""Supervised training of the film encoder, with boxes and without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.errors import ConfigurationError
from model.films.boxes import box_loss, cover, patch_boxes
from model.films.film_model import FilmRun
from model.films.folder import KERMANY, NIH, QUESTIONS, SHENZHEN, FilmFolder
from model.films.pixels import augmented
from model.films.pretrain import (
    balance,
    masked_loss,
    predict,
    pretrain,
    validation_score,
)
from model.films.scoring import film_auroc
from model.films.state_file import read_state
from model.films.training_set import FilmSet, film_set
from tests.model.films.conftest import QUICK, TINY, fresh

EFFUSION = QUESTIONS[NIH].index("Effusion")


@pytest.fixture(scope="module")
def sets(folder: FilmFolder) -> tuple[FilmSet, FilmSet]:
    """Training and validation films."""
    training = film_set(folder, folder.for_weights("train"), TINY, progress=False)
    held_out = film_set(folder, folder.select(NIH, "val"), TINY, progress=False)
    return training, held_out


def test_the_disc_is_learnt_and_holds_on_other_patients(
    taught: FilmRun, folder: FilmFolder
) -> None:
    tested = film_set(folder, folder.select(NIH, "test"), TINY, progress=False)
    logits = predict(taught.model, tested.films, NIH)
    assert film_auroc(logits[:, EFFUSION], tested.targets[0][:, EFFUSION]) > 0.85
    assert taught.record["validation_auroc"] == max(
        epoch["validation_auroc"] for epoch in taught.record["history"]
    )


def test_an_answer_that_nobody_gave_changes_nothing() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    gap = torch.tensor([[1.0, float("nan"), 0.0], [float("nan")] * 3])
    loss = masked_loss(logits, gap, torch.ones(3), 0.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert bool((logits.grad[1] == 0).all()) and float(logits.grad[0, 1]) == 0
    assert float(logits.grad[0, 0]) < 0 < float(logits.grad[0, 2])
    nothing = masked_loss(logits, gap[1:].expand(2, 3), torch.ones(3), 0.0)
    assert float(nothing.detach()) == 0


def test_rare_findings_weigh_more_up_to_a_bound() -> None:
    targets = np.zeros((100, 3), np.float32)
    targets[:50, 0] = targets[:4, 1] = 1
    targets[50:, 2] = np.nan
    assert balance(targets).tolist() == pytest.approx([1.0, np.sqrt(24), 6.0])


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    sets: tuple[FilmSet, FilmSet], tmp_path: Path
) -> None:
    settings = replace(QUICK, epochs=2)
    whole = pretrain(*sets, TINY, settings)
    kept = pretrain(*sets, TINY, settings, state=tmp_path / "run")
    file = tmp_path / "run" / "state.safetensors"
    state = read_state(file)
    assert state["progress"]["epoch"] == 2
    again = pretrain(*sets, TINY, settings, state=tmp_path / "run")
    for run in (kept, again):
        for name, x in whole.model.state_dict().items():
            assert torch.equal(x, run.model.state_dict()[name])
    with pytest.raises(ConfigurationError):
        pretrain(*sets, TINY, replace(settings, seed=8), state=tmp_path / "run")


def test_training_stops_when_validation_no_longer_gains(
    sets: tuple[FilmSet, FilmSet], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(QUICK, epochs=9, rate=0.0, patience=1, progress=True)
    run = pretrain(*sets, TINY, settings, start=fresh(seed=4))
    assert len(run.record["history"]) < 9


def test_nothing_to_train_or_validate_on_is_refused(
    sets: tuple[FilmSet, FilmSet], folder: FilmFolder
) -> None:
    training, _ = sets
    empty = film_set(folder, (), TINY, progress=False)
    with pytest.raises(ConfigurationError):
        pretrain(empty, training, TINY, QUICK)
    children = film_set(folder, folder.select(KERMANY, "val"), TINY, progress=False)
    with pytest.raises(ConfigurationError):
        validation_score(fresh(), children)


def test_a_schedule_may_be_cut_and_is_the_same_until_there(
    sets: tuple[FilmSet, FilmSet],
) -> None:
    whole = pretrain(*sets, TINY, replace(QUICK, epochs=3))
    part = pretrain(*sets, TINY, replace(QUICK, epochs=3, until=2))
    assert part.record["history"] == whole.record["history"][:2]
    longer = pretrain(*sets, TINY, replace(QUICK, epochs=1, until=2))
    assert len(longer.record["history"]) == 1


def test_logits_over_views_are_their_mean_and_of_no_film_none(
    sets: tuple[FilmSet, FilmSet], taught: FilmRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, films = taught.model, sets[1].films[:5]
    empty = np.full_like(films, 90)  # one grey everywhere is zero when standardised
    monkeypatch.setattr(
        "model.films.pretrain.views", lambda x: [x, torch.zeros_like(x)]
    )
    single, blank = (predict(model, shown, NIH) for shown in (films, empty))
    averaged = predict(model, films, NIH, averaged=True)
    assert np.abs(single - blank).max() > 0.15
    assert np.allclose(averaged, (single + blank) / 2, atol=0.03)
    assert predict(model, films[:0], NIH).shape == (0, len(QUESTIONS[NIH]))


def test_boxes_lie_on_the_grid_where_they_lie_on_the_film(folder: FilmFolder) -> None:
    row = next(r for r in folder.select(NIH) if r.boxes)
    box = row.boxes[0]
    fine = cover(row, "Effusion", row.size)
    assert fine.sum() == pytest.approx(box.width * box.height, rel=0.15)
    down, across = (np.argwhere(fine).mean(0) + 0.5).tolist()
    assert down == pytest.approx(box.top + box.height / 2, abs=1)
    assert across == pytest.approx(box.left + box.width / 2, abs=1)
    assert not cover(row, "Mass", (8, 8)).any()


def test_boxes_move_with_their_film(folder: FilmFolder) -> None:
    rows = [r for r in folder.select(NIH) if r.boxes][:16]
    boxes = patch_boxes(rows, TINY, (16, 16))
    assert boxes is not None
    films = np.stack(
        [(cover(r, "Effusion", (64, 64)) * 200 + 20).astype(np.uint8) for r in rows]
    )
    seen, place = augmented(films, torch.Generator().manual_seed(3))
    moved = boxes.moved(np.arange(16), place)
    bright = torch.nn.functional.adaptive_avg_pool2d(seen, 16).flatten(1)  # (16, 256)
    both = torch.corrcoef(torch.stack([bright.flatten(), moved.cover.flatten()]))
    assert float(both[0, 1]) > 0.8
    assert len(boxes.moved(np.array([99]), None).film) == 0


def test_without_boxes_or_without_their_head_nothing_is_laid(
    folder: FilmFolder,
) -> None:
    unboxed = [r for r in folder.select(NIH) if not r.boxes]
    assert patch_boxes(unboxed, TINY, (4, 4)) is None
    other = replace(TINY, sources=(SHENZHEN,))
    assert patch_boxes(folder.select(NIH), other, (4, 4)) is None


def test_the_box_loss_draws_the_map_into_the_box(folder: FilmFolder) -> None:
    rows = [r for r in folder.select(NIH) if r.boxes][:8]
    data = film_set(folder, rows, TINY, progress=False)
    model = fresh().eval()
    boxes = patch_boxes(rows, TINY, model.encoder.grid)
    assert boxes is not None
    x = torch.from_numpy(data.films).float().unsqueeze(1) / 255.0
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = box_loss(model, model.tokens(x), boxes.moved(np.arange(8), None))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    nothing = boxes.moved(np.array([99]), None)
    assert float(box_loss(model, model.tokens(x), nothing).detach()) == 0.0
