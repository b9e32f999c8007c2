"""Is this a chest film at all? Polarity, noise and body part, before any encoder.

A vision transformer gives a confident answer on a negative or on noise, so these checks
look at the pixels themselves. The limits come with the checkpoint, fitted on training
films; a checkpoint without them has no such detector, and says so.

All films are compared at one small size, so that the checks mean the same at 64 and at
224 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fhir_adapters.patient_record import ChestImage
from model.inference.tensors import letterbox

SIDE = 64
TEMPLATE_SIDE = 16
#: Share of the training films that may lie below half of a limit's own quantile.
QUANTILE = 0.005
MARGIN = 0.5
MIN_FILMS = 50

#: Prefix of the flag under which a film carries its DICOM BodyPartExamined.
BODY_PART_FLAG = "body-part:"
#: Defined terms of DICOM PS3.16 Annex L (Body Part Examined) that show no lungs.
#: Vendors write other words too: what is not in this list is not called wrong.
OTHER_BODY_PARTS = frozenset({
    *("ABDOMEN", "ANKLE", "ARM", "BLADDER", "BRAIN", "BREAST", "BUTTOCK", "CALCANEUS"),
    *("CALF", "COCCYX", "COLON", "CSPINE", "ELBOW", "EYE", "FACE", "FEMUR", "FINGER"),
    *("FOOT", "FOREARM", "GALLBLADDER", "HAND", "HEAD", "HIP", "HUMERUS", "JAW"),
    *("KIDNEY", "KNEE", "LEG", "LIVER", "LSPINE", "LSSPINE", "MANDIBLE", "MAXILLA"),
    *("NECK", "NOSE", "ORBIT", "PANCREAS", "PATELLA", "PELVIS", "SCALP", "SHOULDER"),
    *("SIJOINT", "SKULL", "SPINE", "SSPINE", "STOMACH", "THIGH", "THUMB", "TOE"),
    *("TIBFIB", "TOOTH", "UTERUS", "WRIST", "ZYGOMA"),
})  # fmt: skip

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FilmReference:
    """How usual films look: what polarity and noise are measured against.

    ``template`` is the mean standardised training film, row by row
    (TEMPLATE_SIDE squared numbers); ``polarity`` the correlation with it beyond which
    the negative of a film counts as one; ``smoothness`` the least correlation of
    neighbouring pixels.
    """

    template: tuple[float, ...]
    polarity: float
    smoothness: float

    def problem(self, image: ChestImage) -> str:
        """The reason not to read this film: a negative, noise, or none ("")."""
        film = standard_film(image)
        if neighbour_correlation(film) < self.smoothness:
            return "noise_image"
        if likeness(film, self.template) < -self.polarity:
            return "inverted_image"
        return ""


def wrong_body_part(image: ChestImage) -> bool:
    """True where the film's own BodyPartExamined names a part without lungs."""
    parts = [
        flag.removeprefix(BODY_PART_FLAG)
        for flag in image.flags
        if flag.startswith(BODY_PART_FLAG)
    ]
    return any(part.strip().upper() in OTHER_BODY_PARTS for part in parts)


def standard_film(image: ChestImage) -> Floats:
    """The film letterboxed and standardised, (SIDE, SIDE)."""
    square, _ = letterbox(image.pixels, SIDE)
    return square.astype(np.float64)


def neighbour_correlation(film: Floats) -> float:
    """The smaller correlation of pixels with their right and lower neighbours."""
    across = _correlation(film[:, 1:], film[:, :-1])
    down = _correlation(film[1:], film[:-1])
    return min(across, down)


def likeness(film: Floats, template: Sequence[float]) -> float:
    """Correlation of a film (SIDE, SIDE) with a template, from -1 to 1."""
    return _correlation(_small(film), np.asarray(template))


def fit_film_reference(images: Iterable[ChestImage]) -> FilmReference | None:
    """Template and limits from training films; None with fewer than MIN_FILMS.

    Each limit is half of what all but one in two hundred training films exceed: wide on
    purpose, because a site's films differ from the training films, and what is looked
    for (a negative, noise) differs from both by far more.
    """
    films = [standard_film(image) for image in images]
    if len(films) < MIN_FILMS:
        return None
    template = np.mean([_small(film) for film in films], axis=0).round(4)  # (256,)
    like = [likeness(film, template.tolist()) for film in films]
    smooth = [neighbour_correlation(film) for film in films]
    return FilmReference(
        template=tuple(template.tolist()),
        polarity=_limit(like),
        smoothness=_limit(smooth),
    )


def _limit(values: Sequence[float]) -> float:
    return round(MARGIN * max(0.0, float(np.quantile(values, QUANTILE))), 4)


def _small(film: Floats) -> Floats:
    """(SIDE, SIDE) -> means over squares, (TEMPLATE_SIDE ** 2,)."""
    step = SIDE // TEMPLATE_SIDE
    squares = film.reshape(TEMPLATE_SIDE, step, TEMPLATE_SIDE, step)
    means: Floats = squares.mean(axis=(1, 3)).ravel()
    return means


def _correlation(a: Floats, b: Floats) -> float:
    x, y = a.ravel() - a.mean(), b.ravel() - b.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0 else 0.0
