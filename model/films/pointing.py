"""Do the maps point at the lesion: films with a radiologist's box, and lung masks.

The map is the one that a card shows: gradient x token of each patch, at the tokens
that leave the encoder (:func:`model.explain.grad_cam.relevance_map`). Its strongest
patch must have its centre in a box of the finding. Chance is not the share of the box
in the film, since lesions lie in lungs: a point drawn from the mean lung of other
patients is the bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.resampling import DRAWS, bootstrap
from model.explain.grad_cam import relevance_map
from model.films.boxes import cover
from model.films.film_model import FilmModel
from model.films.folder import (
    MONTGOMERY,
    NIH,
    NO_FINDING,
    QUESTIONS,
    FilmFolder,
    FilmRow,
)
from model.films.pixels import film_bytes, standardised
from model.films.scoring import patients_of

#: Resolution at which boxes and lungs are compared.
FINE = 64

Field = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class BoxedFinding:
    """A finding that a film shows and that a radiologist boxed."""

    row: FilmRow
    label: str

    def hit(self, down: float, across: float) -> bool:
        """Whether the point, in shares of height and width, lies in a box."""
        height, width = self.row.size
        return any(
            box.holds(across * width, down * height)
            for box in self.row.boxes
            if box.label == self.label
        )


def boxed_findings(rows: Sequence[FilmRow]) -> list[BoxedFinding]:
    """Every finding with a box, once a film."""
    return [
        BoxedFinding(row, label)
        for row in rows
        for label in dict.fromkeys(box.label for box in row.boxes)
        if label in QUESTIONS[row.source]
    ]


def maps(
    model: FilmModel, folder: FilmFolder, asked: Sequence[tuple[FilmRow, int]]
) -> NDArray[np.float32]:
    """Maps (k, rows, columns) of one question of the NIH head on one film each."""
    if not asked:
        return np.zeros((0, *model.encoder.grid), dtype=np.float32)
    size, head = model.config.image.size, model.place(NIH)
    films = film_bytes(folder, [row for row, _ in asked], size, progress=False)
    found = []
    model.eval()
    for start in range(0, len(asked), 32):
        part = slice(start, start + 32)
        with torch.no_grad():
            tokens = model.tokens(standardised(films[part]))  # (b, N, D)
        tokens.requires_grad_(True)
        question = torch.tensor([q for _, q in asked[part]]).unsqueeze(1)
        chosen = model.answers(tokens)[head].gather(1, question).sum()
        (gradient,) = torch.autograd.grad(chosen, tokens)
        there = torch.ones(tokens.shape[:2], dtype=torch.bool)
        drawn = relevance_map(tokens.detach(), gradient, there)  # (b, N)
        found.append(drawn.view(len(drawn), *model.encoder.grid).numpy())
    return np.concatenate(found)


def peak(field: NDArray[Any]) -> tuple[float, float]:
    """The centre of the strongest cell, in shares of height and width."""
    down, across = np.unravel_index(int(np.argmax(field)), field.shape)
    return (float(down) + 0.5) / field.shape[0], (float(across) + 0.5) / field.shape[1]


def mean_lung(folder: FilmFolder, split: str = "train") -> Field | None:
    """Mean lung mask (64, 64) in [0, 1] of Montgomery films; None without masks."""
    rows = [r for r in folder.select(MONTGOMERY, split) if r.has_mask]
    if not rows:
        return None
    mean: Field = np.mean([_small(folder.lung_mask(row)) for row in rows], axis=0)
    return mean


def _small(mask: NDArray[np.bool_]) -> Field:
    picture = Image.fromarray(mask.astype(np.float32))
    shrunk = picture.resize((FINE, FINE), Image.Resampling.BOX)
    return np.asarray(shrunk, dtype=np.float64)


def pointing_game(
    model: FilmModel, folder: FilmFolder, split: str = "test", draws: int = DRAWS
) -> dict[str, Any]:
    """Hit rate of the maps on boxed films, beside what needs no map; plain JSON.

    Args:
        model: With a head for NIH.
        folder: The films.
        split: Whose boxes.
        draws: Resamples of patients.

    Returns:
        ``hit`` with its interval, the chances beside it, ``ratio`` to the lungs'
        share, and the figures per finding.
    """
    asked = boxed_findings(folder.select(NIH, split))
    if not asked:
        return {"n": 0}
    questions = [(a.row, QUESTIONS[NIH].index(a.label)) for a in asked]
    drawn = maps(model, folder, questions)
    hits = np.array([a.hit(*peak(m)) for a, m in zip(asked, drawn)], dtype=np.float64)
    inside = np.stack([cover(a.row, a.label, (FINE, FINE)) for a in asked])  # (k, ...)
    whole = inside.mean((1, 2))
    patients = patients_of([a.row for a in asked])
    report: dict[str, Any] = {
        "n": len(asked),
        "patients": int(patients.max()) + 1,
        "hit": _rate(hits, patients, draws),
        "whole_image": float(whole.mean()),
        "most_boxed_point": _prior_point(folder, asked),
    }
    lung = mean_lung(folder)
    if lung is not None:
        share = (inside * lung).sum((1, 2)) / lung.sum()
        report["lung_share"] = float(share.mean())
        report["ratio"] = float(hits.mean() / share.mean())
        report["centre_of_lung"] = _centres(lung, asked)
    labels = np.array([a.label for a in asked])
    report["per_finding"] = {
        label: {
            "n": int((labels == label).sum()),
            "hit": float(hits[labels == label].mean()),
            "whole_image": float(whole[labels == label].mean()),
            "lung_share": (
                None if lung is None else float(share[labels == label].mean())
            ),
        }
        for label in sorted(set(labels.tolist()))
    }
    return report


def _rate(hits: Field, patients: NDArray[np.int64], draws: int) -> dict[str, Any]:
    """Share of hits with its interval over patients."""
    return bootstrap(
        lambda found, _: float(found.mean()),
        hits,
        np.zeros(len(hits)),
        patients,
        draws,
    ).to_json()


def _centres(lung: Field, asked: Sequence[BoxedFinding]) -> dict[str, float]:
    """Hit rate of the centre of each lung, the film's left half first."""
    half = FINE // 2
    down, across = np.mgrid[0:FINE, 0:FINE] + 0.5
    found = {}
    for name, part in (
        ("film_left", slice(0, half)),
        ("film_right", slice(half, FINE)),
    ):
        weight = np.zeros_like(lung)
        weight[:, part] = lung[:, part]
        y = float((weight * down).sum() / weight.sum() / FINE)
        x = float((weight * across).sum() / weight.sum() / FINE)
        found[name] = float(np.mean([a.hit(y, x) for a in asked]))
    return found


def _prior_point(folder: FilmFolder, asked: Sequence[BoxedFinding]) -> float | None:
    """Hit rate of the point that most training boxes of the same finding hold."""
    training = boxed_findings(folder.select(NIH, "train"))
    places: dict[str, tuple[float, float]] = {}
    for label in {a.label for a in asked}:
        known = [
            cover(t.row, label, (FINE, FINE)) for t in training if t.label == label
        ]
        if known:
            places[label] = peak(np.mean(known, axis=0))
    if not places:
        return None
    return float(
        np.mean([a.label in places and a.hit(*places[a.label]) for a in asked])
    )


def lung_share(
    model: FilmModel, folder: FilmFolder, split: str = "test"
) -> dict[str, Any]:
    """Mass of the maps inside the lungs of Montgomery films; plain JSON.

    No such film is in the training of shippable weights. The map is that of the
    finding which the NIH head holds most likely.
    """
    rows = [r for r in folder.select(MONTGOMERY, split) if r.has_mask]
    if not rows:
        return {"n": 0}
    films = film_bytes(folder, rows, model.config.image.size, progress=False)
    with torch.no_grad():
        logits = model.eval()(standardised(films))[model.place(NIH)]
    logits[:, QUESTIONS[NIH].index(NO_FINDING)] = -np.inf
    asked = [(row, int(q)) for row, q in zip(rows, logits.argmax(1).tolist())]
    shares, areas, points = [], [], []
    for row, drawn in zip(rows, maps(model, folder, asked)):
        lung = _small(folder.lung_mask(row))
        even = np.asarray(
            Image.fromarray(drawn).resize((FINE, FINE), Image.Resampling.NEAREST)
        )
        areas.append(lung.mean())
        if even.sum() > 0:
            shares.append((even * lung).sum() / even.sum())
            y, x = peak(drawn)
            points.append(lung[int(y * FINE), int(x * FINE)] > 0.5)
    return {
        "n": len(rows),
        "blank": len(rows) - len(shares),
        "mass_in_lung": float(np.mean(shares)) if shares else None,
        "peak_in_lung": float(np.mean(points)) if points else None,
        "lung_area": float(np.mean(areas)),
    }
