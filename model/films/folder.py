"""The film folder: findings with gaps, radiologists' boxes, lung masks, fixed splits.

Rules this module enforces (harm in brackets):

1. An empty finding was never asked; it is no negative (a paediatric film would teach
   that adults with a clear film have no cardiomegaly).
2. Findings belong to a source. No class is made of two sources, because the source can
   be told from any corner of the film (a model that recognises hospitals).
3. A patient has one split, and one official split (a test on what was trained on).
4. Films whose terms are a research release never reach weights that may be shipped:
   :meth:`FilmFolder.for_weights` leaves them out unless they are asked for by name.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.datasets.grey_image import read_grey
from model.errors import DatasetError, DatasetFileError, PatientLeakError

LABELS_FILE, BOXES_FILE = "labels.csv", "boxes.csv"
IMAGES, MASKS = "images", "masks"
SPLITS = ("train", "val", "test")
OFFICIAL = ("train_val", "test")

NIH = "NIH ChestX-ray14"
KERMANY = "Kermany paediatric"
MONTGOMERY = "NLM Montgomery"
SHENZHEN = "NLM Shenzhen"
#: Films of our own generator; they are in no folder (:mod:`model.films.rendered`).
RENDERED = "Rendered"
NO_FINDING = "No_Finding"
OPACITY, RING, RETICULAR = "Opacity", "Ring", "Reticular"

#: What each source was asked about: the outputs of its own head.
QUESTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        NIH: (
            "Atelectasis",
            "Cardiomegaly",
            "Effusion",
            "Infiltration",
            "Mass",
            "Nodule",
            "Pneumonia",
            "Pneumothorax",
            "Consolidation",
            "Edema",
            "Emphysema",
            "Fibrosis",
            "Pleural_Thickening",
            "Hernia",
            NO_FINDING,
        ),
        KERMANY: ("Paediatric_Pneumonia",),
        MONTGOMERY: ("Tuberculosis",),
        SHENZHEN: ("Tuberculosis",),
        RENDERED: (OPACITY, RING, RETICULAR),
    }
)
#: Sources whose terms allow shipped weights with attribution.
SHIPPABLE = (NIH, KERMANY)
FOLDER_SOURCES = (NIH, KERMANY, MONTGOMERY, SHENZHEN)
_COLUMNS = ("image", "patient_id", "split", "source", "age", "sex", "view")
_BOX_COLUMNS = ("image", "label", "x", "y", "w", "h")
_ANSWERS: Mapping[str, float] = MappingProxyType({"": float("nan"), "0": 0.0, "1": 1.0})

Pixels = NDArray[np.float32]


class FilmFolderError(DatasetFileError):
    """The film folder is not what its layout promises; names file, line and column."""

    code = "film_folder"


@dataclass(frozen=True, slots=True)
class Box:
    """A radiologist's box of one finding, in pixels of the film from its top left."""

    label: str
    left: float
    top: float
    width: float
    height: float

    def holds(self, x: float, y: float) -> bool:
        """Whether the point (pixels) lies in the box, its border included."""
        inside = self.left <= x <= self.left + self.width
        return inside and self.top <= y <= self.top + self.height


@dataclass(frozen=True, slots=True)
class FilmRow:
    """One film; ``findings`` holds the answers of its source's questions only.

    ``age`` in years or None, ``sex`` "M", "F" or "", ``view`` "PA", "AP" or "";
    ``official`` is the split of the original release ("" where there is none).
    """

    image: str
    patient: str
    split: str
    source: str
    age: float | None
    sex: str
    view: str
    findings: Mapping[str, float]
    official: str = ""
    carrier: str = ""
    boxes: tuple[Box, ...] = ()
    size: tuple[int, int] = (0, 0)
    has_mask: bool = False


@dataclass(frozen=True)
class FilmFolder:
    """All films of a folder, read and checked; pixels are read on demand."""

    folder: Path
    rows: tuple[FilmRow, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def select(
        self, source: str, split: str | None = None, official: str | None = None
    ) -> tuple[FilmRow, ...]:
        """The films of one source, of one split, or of one official split.

        Raises:
            DatasetError: nothing of that kind is in the folder's layout.
        """
        if source not in FOLDER_SOURCES:
            raise DatasetError("the film folder has no such source")
        if split not in (None, *SPLITS) or official not in (None, *OFFICIAL):
            raise DatasetError("the film folder has no such split")
        return tuple(
            row
            for row in self.rows
            if row.source == source
            and split in (None, row.split)
            and official in (None, row.official)
        )

    def for_weights(
        self, split: str, *, research_only: bool = False
    ) -> tuple[FilmRow, ...]:
        """Films of one split that may teach an encoder.

        Args:
            split: "train", "val" or "test".
            research_only: Also the sources under a research release; weights that saw
                them must not be shipped.
        """
        sources = FOLDER_SOURCES if research_only else SHIPPABLE
        return tuple(row for s in sources for row in self.select(s, split))

    def pixels(self, row: FilmRow) -> Pixels:
        """One film, (H, W) in [0, 1].

        Raises:
            DatasetError: the picture is missing or unreadable.
        """
        return read_grey(self.folder / IMAGES / row.image)[0]

    def lung_mask(self, row: FilmRow) -> NDArray[np.bool_]:
        """The lungs of one film, (H, W).

        Raises:
            DatasetError: the film has no mask, or its mask cannot be read.
        """
        if not row.has_mask:
            raise DatasetError(f"{row.image} has no lung mask")
        name = str(Path(row.image).with_suffix(".png"))
        return read_grey(self.folder / MASKS / name)[0] > 0


def read_film_folder(folder: Path) -> FilmFolder:
    """Read and check a film folder.

    Args:
        folder: Holds ``labels.csv``, ``boxes.csv``, ``images/`` and ``masks/``.

    Raises:
        FilmFolderError: a file or column is missing, a cell is none of the allowed.
        PatientLeakError: a patient is in two splits, or in two official ones.
    """
    boxes = _read_boxes(folder / BOXES_FILE)
    rows = tuple(
        _row(cells, line, boxes)
        for line, cells in _table(folder / LABELS_FILE, _COLUMNS)
    )
    names = {row.image for row in rows}
    if len(names) != len(rows):
        raise FilmFolderError(LABELS_FILE, "one film on two lines", column="image")
    if not set(boxes) <= names:
        raise FilmFolderError(BOXES_FILE, "a box without its film", column="image")
    assert_patient_wise(rows, lambda row: row.split)
    assert_patient_wise([r for r in rows if r.official], lambda row: row.official)
    return FilmFolder(folder, rows)


def assert_patient_wise(
    rows: Sequence[FilmRow], side_of: Callable[[FilmRow], str]
) -> None:
    """Refuse a split that has one patient on two sides.

    Args:
        rows: Any films.
        side_of: The side on which a film stands.

    Raises:
        PatientLeakError: names no patient.
    """
    sides: dict[str, str] = {}
    for row in rows:
        if sides.setdefault(row.patient, side_of(row)) != side_of(row):
            raise PatientLeakError("a patient of the film folder is in two splits")


def answers(rows: Sequence[FilmRow], source: str) -> NDArray[np.float32]:
    """Targets (n, questions of ``source``); NaN where the film was never asked."""
    asked = QUESTIONS[source]
    table = [
        [row.findings.get(q, np.nan) if row.source == source else np.nan for q in asked]
        for row in rows
    ]
    return np.array(table, dtype=np.float32).reshape(len(rows), len(asked))


def _row(
    cells: Mapping[str, str], line: int, boxes: Mapping[str, tuple[Box, ...]]
) -> FilmRow:
    source, split = cells["source"], cells["split"]
    if source not in FOLDER_SOURCES:
        raise FilmFolderError(LABELS_FILE, "unknown source", line=line, column="source")
    if split not in SPLITS or not cells["image"] or not cells["patient_id"]:
        raise FilmFolderError(LABELS_FILE, "split, film or patient", line=line)
    return FilmRow(
        image=cells["image"],
        patient=cells["patient_id"],
        split=split,
        source=source,
        age=_number(cells["age"], line, "age") if cells["age"] else None,
        sex=cells["sex"],
        view=cells["view"],
        findings={q: _answer(cells, q, line) for q in QUESTIONS[source]},
        official=cells.get("nih_official", ""),
        carrier=cells.get("carrier", ""),
        boxes=boxes.get(cells["image"], ()),
        size=(
            int(_number(cells.get("height", "0"), line, "height")),
            int(_number(cells.get("width", "0"), line, "width")),
        ),
        has_mask=cells.get("has_mask", "0") == "1",
    )


def _answer(cells: Mapping[str, str], question: str, line: int) -> float:
    """1, 0, or NaN for a question that was not asked (rule 1)."""
    if cells.get(question) not in _ANSWERS:
        raise FilmFolderError(
            LABELS_FILE, "neither 0, 1 nor empty", line=line, column=question
        )
    return _ANSWERS[cells[question]]


def _number(cell: str, line: int, column: str, file: str = LABELS_FILE) -> float:
    try:
        return float(cell)
    except ValueError:
        raise FilmFolderError(file, "no number", line=line, column=column) from None


def _read_boxes(path: Path) -> dict[str, tuple[Box, ...]]:
    found: dict[str, tuple[Box, ...]] = {}
    for line, cells in _table(path, _BOX_COLUMNS):
        place = [_number(cells[c], line, c, BOXES_FILE) for c in ("x", "y", "w", "h")]
        box = Box(cells["label"], *place)
        if box.width <= 0 or box.height <= 0:
            raise FilmFolderError(BOXES_FILE, "an empty box", line=line)
        found[cells["image"]] = (*found.get(cells["image"], ()), box)
    return found


def _table(
    path: Path, columns: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows of a CSV file by column name, with their line numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True, restval=None)
            missing = [c for c in columns if c not in (reader.fieldnames or ())]
            if missing:
                raise FilmFolderError(path.name, "column missing", column=missing[0])
            for cells in reader:
                if None in cells or None in cells.values():
                    raise FilmFolderError(
                        path.name, "row of another width", line=reader.line_num
                    )
                yield reader.line_num, cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FilmFolderError(path.name, "unreadable") from error
