"""Real films joined to synthetic notes and values: the cases of ``film-trimodal``.

What is real and what is not:

- The film and what was read off its report are real. A film *shows* (F = 1) when it is
  marked with one of :data:`SHOWN`, and does not (F = 0) when it is marked with nothing.
  Other films are left out.
- Everything else is drawn. Severity E in {low, ambiguous, high} follows F loosely:
  P(E | F=1) = (.10, .45, .45), P(E | F=0) = (.45, .45, .10). The note shows E and a
  syndrome b, the values show E and a cell pattern c, each with the errors of set P0 of
  SynthTriModal and in its words and numbers.
- The label: y = 1 when E is high, 0 when it is low. When E is ambiguous, y = 1 exactly
  when the cells fit film and syndrome: c = Latin[F][b]; else c = Latin[1 - F][b]. Both
  are as likely, so note and values without the film know nothing of an ambiguous case,
  and neither does the film without both. Labels flip as in P0.
- Age and sex are drawn anew: those of the film would let the note tell the film.

The film is therefore worth what an encoder really reads off it: no more pixels are
planted. Patients keep the split of the film folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.films.folder import NIH, NO_FINDING, FilmFolder, FilmRow
from model.films.pixels import film_bytes
from model.films.scoring import patients_of
from model.synthetic.case import SynthCase
from model.synthetic.generate import Knobs, generate
from model.synthetic.latents import (
    LATIN_SQUARE,
    PARAMETERS,
    CaseLatents,
    CellPattern,
    Severity,
    Split,
    Syndrome,
    generator,
    pattern_confusion,
    severity_confusion,
)
from model.synthetic.note import write_note
from model.synthetic.values import measure

#: Findings that make a film one that shows something: opacity, fluid, a large heart.
SHOWN = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Infiltration",
    "Pneumonia",
)
SEVERITY_GIVEN_FILM = np.array([[0.45, 0.45, 0.10], [0.10, 0.45, 0.45]])
_SPLITS: Mapping[str, Split] = MappingProxyType(
    {"train": Split.TRAIN, "val": Split.VALIDATION, "test": Split.TEST}
)
# Below every stream of the plain generator, so that no draw is shared with it.
_JOIN = 9
_NOTE_ERROR, _VALUES_ERROR = 1, 2


@dataclass(frozen=True)
class JoinedCases:
    """Cases with real films; ``patients`` (n,) number the films' patients.

    ``film`` (n,) is F, what the film's report says; ``number`` (n,) is the place of
    each case's film in ``rows``.
    """

    cases: Sequence[SynthCase]
    patients: NDArray[np.int64]
    film: NDArray[np.int64]
    number: NDArray[np.int64]
    rows: Sequence[FilmRow]

    def __len__(self) -> int:
        return len(self.cases)


def film_state(row: FilmRow) -> int | None:
    """F of one film; None for a film that takes no part."""
    if any(row.findings.get(name) == 1 for name in SHOWN):
        return 1
    return 0 if row.findings.get(NO_FINDING) == 1 else None


def joined_cases(
    folder: FilmFolder, split: str, *, size: int, copies: int, seed: int
) -> JoinedCases:
    """All eligible NIH films of one split, each in ``copies`` cases.

    Args:
        folder: The films.
        split: "train", "val" or "test": of the patients, and of the seed namespace.
        size: Side of the film in pixels.
        copies: Cases per film; note, values and label are drawn for each.
        seed: Zero or positive.
    """
    rows = [r for r in folder.select(NIH, split) if film_state(r) is not None]
    if not rows:
        nobody = np.zeros(0, dtype=np.int64)
        return JoinedCases((), nobody, nobody, nobody, ())
    films = [
        film.astype(np.float32) / 255.0  # one array for all copies of a film
        for film in film_bytes(folder, rows, size, progress=False)
    ]
    state = np.array([film_state(row) for row in rows], dtype=np.int64)
    n = len(rows) * copies
    film = np.tile(state, copies)
    people = generate(
        n, seed, image_size=32, split=_SPLITS[split], knobs=Knobs(distractors=0.0)
    )
    random = generator(_SPLITS[split], seed, _JOIN)
    cases = []
    for number, person in enumerate(people):
        pixels = films[number % len(rows)]
        cases.append(_joined(person, pixels, int(film[number]), random))
    places = np.tile(np.arange(len(rows)), copies)
    return JoinedCases(cases, np.tile(patients_of(rows), copies), film, places, rows)


def _joined(
    person: SynthCase,
    pixels: NDArray[np.float32],
    film: int,
    random: np.random.Generator,
) -> SynthCase:
    """One person's case with a real film and a label that depends on it."""
    p0 = PARAMETERS["P0"]
    severity = int(random.choice(3, p=SEVERITY_GIVEN_FILM[film]))
    syndrome, concordant = int(random.integers(3)), int(random.integers(2))
    cells = int(LATIN_SQUARE[film if concordant else 1 - film, syndrome])
    truth = severity == Severity.HIGH or (severity == Severity.AMBIGUOUS and concordant)
    ambiguous = severity == Severity.AMBIGUOUS
    flipped = random.random() < (p0.flip_ambiguous if ambiguous else p0.flip_clear)
    seen = [severity, severity, severity]
    shown = [film, syndrome, cells]
    for m in (_NOTE_ERROR, _VALUES_ERROR):
        seen[m] = int(
            random.choice(3, p=severity_confusion(p0.severity_error[m])[seen[m]])
        )
        errors = pattern_confusion(p0.pattern_error[m])[shown[m]]
        shown[m] = int(random.choice(3, p=errors / errors.sum()))
    note = write_note(
        Severity(seen[1]),
        Syndrome(shown[1]),
        person.lobe,
        person.age_years,
        person.sex,
        random,
    )
    values, absent = measure(
        Severity(seen[2]), CellPattern(shown[2]), person.film_at, random
    )
    return replace(
        person,
        case_id=person.case_id.replace("synth-", "film-"),
        label=int(bool(truth) ^ bool(flipped)),
        image=pixels,
        mask=np.zeros(pixels.shape, dtype=np.bool_),
        distractors=(),
        note=note,
        values=values,
        absent=absent,
        latents=CaseLatents(
            severity=Severity(severity),
            concordant=bool(concordant),
            patterns=(film, syndrome, cells),
            flipped=bool(flipped),
            seen_severity=(seen[0], seen[1], seen[2]),
            seen_pattern=(shown[0], shown[1], shown[2]),
        ),
    )


def attainable(
    joined: JoinedCases, film_chance: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The exact posterior of y from what note and values show, and the film.

    Args:
        joined: The cases.
        film_chance: (n,) chance that the film shows something; None reads the film's
            report without error. 0.5 throughout is a film that nobody looked at.
    """
    p0 = PARAMETERS["P0"]
    see = [severity_confusion(e) for e in p0.severity_error]
    show = [pattern_confusion(e) for e in p0.pattern_error]
    found = np.zeros(len(joined))
    for number, case in enumerate(joined.cases):
        state = case.latents
        chance = (
            float(joined.film[number])
            if film_chance is None
            else float(film_chance[number])
        )
        mass = np.zeros(2)
        for film, of_film in ((0, 1 - chance), (1, chance)):
            severity = (
                SEVERITY_GIVEN_FILM[film]
                * see[1][:, state.seen_severity[1]]
                * see[2][:, state.seen_severity[2]]
            )  # (3,)
            fits = [0.0, 0.0]  # discordant, concordant
            for syndrome in range(3):
                for concordant in (0, 1):
                    cells = LATIN_SQUARE[film if concordant else 1 - film, syndrome]
                    fits[concordant] += (
                        show[1][syndrome, state.seen_pattern[1]]
                        * show[2][cells, state.seen_pattern[2]]
                    )
            low, middle, high = severity
            ill = high * sum(fits) * (1 - p0.flip_clear)
            ill += low * sum(fits) * p0.flip_clear
            well = high * sum(fits) * p0.flip_clear
            well += low * sum(fits) * (1 - p0.flip_clear)
            right, wrong = 1 - p0.flip_ambiguous, p0.flip_ambiguous
            ill += middle * (fits[1] * right + fits[0] * wrong)
            well += middle * (fits[0] * right + fits[1] * wrong)
            mass += of_film * np.array([well, ill])
        found[number] = mass[1] / mass.sum()
    return found
