"""Cases with a film, a note and values, several of which may share one film.

Two sorts: *joined* cases have a real film (:mod:`model.films.joined_cases`), *drawn*
ones a film of the generator. What a film can be asked differs: a real one shows
something or not, a drawn one has a severity and a shape. Neither is asked what only
the other could answer. n cases, m films, N patches of a film.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fhir_adapters.patient_record import PatientRecord
from model.errors import ConfigurationError
from model.films.boxes import cover
from model.films.folder import FilmFolder, FilmRow
from model.films.joined_cases import SHOWN, JoinedCases, joined_cases
from model.network.inputs import IMAGE, MODALITIES
from model.network.losses import UNKNOWN_CLASS
from model.synthetic.case import SynthCase
from model.synthetic.latents import Split
from model.training.finding_heads import LESION_SHARE
from model.training.sparse import sparse_copies
from model.training.synthetic_set import synthetic_cases, synthetic_set
from model.training.training_set import Finding, TrainingSet

#: Sides at which the films of drawn cases are rendered: what a chart serves varies.
SIDES = (128, 192, 224)
#: Share of the drawn cases whose chart is cut down to a part, see ``poorer_copies``.
SPARSE = 0.3
#: Share of those that come without reference ranges and flags.
BARE = 0.5
#: Cells by which a box is laid on a patch, each way.
_FINE = 4

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CaseSet:
    """n cases on m films.

    ``film`` (n,) numbers the film of each case; ``patients`` (n,) the people. ``real``
    (n,) marks joined cases and ``shows`` (n,) is F of the film, -1 where it is drawn.
    ``lesion`` (n, N) is 1 on the patches that a radiologist's box or the generator's
    mask covers; a row without any 1 says nothing. The records hold the films.
    """

    data: TrainingSet
    cases: Sequence[SynthCase]
    film: Ints
    patients: Ints
    real: NDArray[np.bool_]
    shows: Ints
    lesion: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.cases)

    def one_of_each_film(self) -> Ints:
        """(m,) the first case of every film, by the film's number."""
        return np.asarray(np.unique(self.film, return_index=True)[1], dtype=np.int64)

    def subset(self, rows: Ints) -> CaseSet:
        """Some of the cases, their films numbered anew."""
        return CaseSet(
            self.data.subset(rows),
            [self.cases[row] for row in rows.tolist()],
            np.asarray(np.unique(self.film[rows], return_inverse=True)[1]),
            self.patients[rows],
            self.real[rows],
            self.shows[rows],
            self.lesion[rows],
        )

    def film_questions(self) -> tuple[Finding, ...]:
        """What a film is asked: whether it shows anything, or severity and shape."""
        severity, pattern = self.data.findings[MODALITIES[IMAGE]]
        drawn = [
            replace(f, target=np.where(self.real, UNKNOWN_CLASS, f.target))
            for f in (severity, pattern)
        ]
        return (Finding("shows", 2, self.shows), *drawn)


def joined_set(
    folder: FilmFolder,
    split: str,
    *,
    size: int,
    grid: tuple[int, int],
    copies: int,
    seed: int,
) -> CaseSet:
    """The cases of ``film-trimodal``; see :func:`joined_cases`.

    Args:
        folder: The films.
        split: "train", "val" or "test".
        size: Side of a film in pixels.
        grid: Rows and columns of patches.
        copies: Cases per film.
        seed: Zero or positive.

    Raises:
        ConfigurationError: the split has no eligible film.
    """
    joined = joined_cases(folder, split, size=size, copies=copies, seed=seed)
    if not len(joined):
        raise ConfigurationError("no films that show, or do not show, anything")
    return of_joined(joined, grid)


def of_joined(joined: JoinedCases, grid: tuple[int, int]) -> CaseSet:
    """Joined cases as a set.

    Args:
        joined: At least one case.
        grid: Rows and columns of patches.
    """
    boxes = np.stack([_boxed(row, grid) for row in joined.rows])  # (m, N)
    return CaseSet(
        _plain(synthetic_set(joined.cases)),
        joined.cases,
        joined.number,
        joined.patients,
        np.ones(len(joined), dtype=np.bool_),
        joined.film,
        boxes[joined.number],
    )


def drawn_set(
    n: int, seed: int, split: Split, grid: tuple[int, int], sparse: float = SPARSE
) -> CaseSet:
    """Cases of the generator, rendered at each of SIDES in turn.

    Args:
        n: How many.
        seed: Of the first side; the others follow it.
        split: Seed namespace.
        grid: Rows and columns of patches.
        sparse: Share of the charts that are cut down.
    """
    per_side = -(-n // len(SIDES))
    streams = [
        synthetic_cases(per_side, seed + k, split=split, image_size=side)
        for k, side in enumerate(SIDES)
    ]
    cases = [case for group in zip(*streams) for case in group][:n]
    # Masks of several sizes do not stack: the patches they cover do.
    lesion = np.stack([_covered(case.mask, grid) for case in cases])
    alike = [replace(case, mask=np.zeros((1, 1), dtype=np.bool_)) for case in cases]
    data = _plain(synthetic_set(alike))
    cut = np.random.default_rng((seed, n)).random(n) < sparse
    fewer = iter(
        poorer_copies([data.records[i] for i in np.flatnonzero(cut).tolist()], seed)
    )
    records = [next(fewer) if c else r for c, r in zip(cut, data.records)]
    everyone = np.arange(n)
    return CaseSet(
        replace(data, records=records),
        cases,
        everyone,
        everyone,
        np.zeros(n, dtype=np.bool_),
        np.full(n, UNKNOWN_CLASS),
        lesion,
    )


def poorer_copies(records: Sequence[PatientRecord], seed: int) -> list[PatientRecord]:
    """Cut-down charts, half of them from a source that sends no reference ranges.

    Args:
        records: Full records; they are not changed.
        seed: Of what is cut.
    """
    bare = np.random.default_rng((seed, len(records))).random(len(records)) < BARE
    return [
        _without_ranges(record) if plain else record
        for record, plain in zip(sparse_copies(records, seed), bare)
    ]


def _without_ranges(record: PatientRecord) -> PatientRecord:
    values = tuple(
        replace(v, reference_low=None, reference_high=None, interpretation=None)
        for v in record.values
    )
    return replace(record, values=values)


def together(first: CaseSet, second: CaseSet) -> CaseSet:
    """Both sets as one; films and patients of the second get numbers of their own."""
    a, b = first.data, second.data
    data = TrainingSet(
        [*a.records, *b.records],
        a.labels,
        np.concatenate([a.targets, b.targets]),
        np.concatenate([a.known, b.known]),
        {
            name: tuple(
                replace(f, target=np.concatenate([f.target, g.target]))
                for f, g in zip(a.findings[name], b.findings[name])
            )
            for name in a.findings
        },
    )
    return CaseSet(
        data,
        [*first.cases, *second.cases],
        np.concatenate([first.film, second.film + first.film.max() + 1]),
        np.concatenate([first.patients, second.patients + first.patients.max() + 1]),
        np.concatenate([first.real, second.real]),
        np.concatenate([first.shows, second.shows]),
        np.concatenate([first.lesion, second.lesion]),
    )


def shuffled_films(cases: CaseSet, share: float, seed: int) -> Ints:
    """(n,) film of each case, where a share of the joined cases got another's film.

    An encoder reads films that taught it better than it will read others. A fusion that
    learns on them trusts the film too much. With another patient's film in some cases
    the film tells, on average, as little as it does on new patients.

    Args:
        cases: Training cases.
        share: 0 to 1 of the joined cases.
        seed: Of the choice.
    """
    random = np.random.default_rng(seed)
    real = np.flatnonzero(cases.real)
    changed = real[random.random(len(real)) < share]
    film = cases.film.copy()
    film[changed] = random.choice(cases.film[real], len(changed))
    return film


def _plain(data: TrainingSet) -> TrainingSet:
    """Without what only the synthetic training needs."""
    return replace(data, lesion_masks=None, evidence=None)


def _boxed(row: FilmRow, grid: tuple[int, int]) -> NDArray[np.float32]:
    """(N,) patches in a box of a finding that counts."""
    fine = (grid[0] * _FINE, grid[1] * _FINE)
    inside = np.zeros(fine, dtype=np.bool_)
    for label in SHOWN:
        if row.findings.get(label) == 1:
            inside |= cover(row, label, fine)
    return _covered(inside, grid)


def _covered(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.float32]:
    """(N,) 1 where the mask covers enough of a patch."""
    picture = Image.fromarray(mask.astype(np.float32))
    share = picture.resize((grid[1], grid[0]), Image.Resampling.BOX)
    return (np.asarray(share) >= LESION_SHARE).astype(np.float32).ravel()
