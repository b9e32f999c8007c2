"""CheXpert: ``train.csv`` and ``valid.csv`` with the films they point to.

``Path,Sex,Age,Frontal/Lateral,AP/PA`` and fourteen findings. A path is
``CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg``: its first part
names the release and differs from copy to copy, so it is matched from ``train/`` or
``valid/`` on. The patient is in the path; splits are by patient, never by film.

    for film in read_chexpert(folder, "train"):
        film.targets(DEFAULT_LABEL_POLICY).known
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.datasets.chexpert_labels import (
    DEFAULT_LABEL_POLICY,
    LABELS,
    LabelPolicy,
    Marks,
    Targets,
    read_marks,
    targets,
)
from model.datasets.csv_table import Row, need_table, read_rows
from model.datasets.grey_image import read_grey
from model.errors import DatasetError, PatientLeakError

PARTS = ("train", "valid")
_PATH = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?"
    r"(?P<below>(?P<part>train|valid)/(?P<patient>patient[0-9]{1,8})"
    r"/(?P<study>study[0-9]{1,4})/view[0-9]{1,4}_(?:frontal|lateral)\.(?:jpg|png))"
)
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)
_SEXES = {"Female": "female", "Male": "male"}
_VIEWS = frozenset({"AP", "PA", "LL", "RL"})
_SIDES = frozenset({"Frontal", "Lateral"})


@dataclass(frozen=True, slots=True)
class ChexpertFilm:
    """One film of CheXpert.

    ``file`` is below the folder that holds ``train`` and ``valid``; ``view`` is AP, PA
    or LL, None where the source does not say; ``age`` is None where it says 0.
    """

    file: Path
    part: str
    patient: str
    study: str
    frontal: bool
    view: str | None
    sex: str | None
    age: int | None
    marks: Marks

    @property
    def key(self) -> str:
        """What names the film, the same in every release."""
        return self.file.as_posix()

    def targets(self, policy: LabelPolicy = DEFAULT_LABEL_POLICY) -> Targets:
        """Targets (14,) under a policy."""
        return targets(self.key, self.marks, policy)


def read_chexpert(folder: Path, part: str) -> Iterator[ChexpertFilm]:
    """Films of ``train.csv`` or ``valid.csv``, streamed.

    Args:
        folder: holds the csv files.
        part: "train" or "valid".

    Raises:
        DatasetFileError: no such file, a missing column, a path outside the layout, or
            a cell that is none of its column's values.
    """
    if part not in PARTS:
        raise DatasetError("CheXpert has the parts train and valid")
    for row in read_rows(need_table(folder, f"{part}.csv"), _COLUMNS):
        yield _film(row, part)


def pixels(folder: Path, film: ChexpertFilm) -> NDArray[np.float32]:
    """Grey levels (H, W) in [0, 1] of a film.

    Raises:
        DatasetError: the film is not there or cannot be read.
    """
    return read_grey(folder / film.file)[0]


def is_held_out(patient: str, *, share: float = 0.1, seed: int = 0) -> bool:
    """Whether a patient of the training part is kept for validation.

    The official validation part has 200 patients; this draws more of them, by patient,
    the same on every machine and whatever other patients there are.
    """
    digest = hashlib.sha256(f"{seed}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share


def without_leak(
    films: Iterable[ChexpertFilm], part_of: dict[str, str]
) -> Iterator[ChexpertFilm]:
    """Pass ``films`` on and check that each patient is in one part only.

    Args:
        films: of one part or of several.
        part_of: part by patient; filled here, so that it can be passed on.

    Raises:
        PatientLeakError: a patient is in both parts.
    """
    for film in films:
        if part_of.setdefault(film.patient, film.part) != film.part:
            raise PatientLeakError("CheXpert: a patient is in train and in valid")
        yield film


def _film(row: Row, part: str) -> ChexpertFilm:
    match = _PATH.fullmatch(row.needed("Path"))
    # One plain folder may stand before: no "..", no absolute path, no backslash.
    if match is None or match["part"] != part:
        raise row.fault("Path", f"is no path of a film below {part}/")
    side, view = row.text("Frontal/Lateral"), row.text("AP/PA")
    if side not in _SIDES:
        raise row.fault("Frontal/Lateral", "is neither Frontal nor Lateral")
    if view and view not in _VIEWS:
        raise row.fault("AP/PA", "is no view")
    return ChexpertFilm(
        file=Path(match["below"]),
        part=part,
        patient=match["patient"],
        study=match["study"],
        frontal=side == "Frontal",
        view=view or None,
        sex=_SEXES.get(row.text("Sex")),
        age=row.whole("Age") or None,
        marks=read_marks(row),
    )
