"""Synthetic cases one after the other, each fixed by (split, seed, index)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from model.synthetic.case import Lobe, SynthCase
from model.synthetic.latents import (
    CaseLatents,
    CellPattern,
    ImagePattern,
    Severity,
    Split,
    Syndrome,
    draw_latents,
    generator,
    parameter_set,
)
from model.synthetic.note import write_note
from model.synthetic.render import render_film
from model.synthetic.values import ABSENCE, measure

_FIRST_DAY = datetime(2021, 1, 1, tzinfo=UTC)
_LOBES = tuple(Lobe)

# Streams below a seed: one for all latents, four below each case.
_LATENTS, _CASE = 0, 1
_PERSON, _FILM, _NOTE, _VALUES = range(4)


@dataclass(frozen=True, slots=True)
class Knobs:
    """What may be made harder: chances of a value's absence, of each distractor, and
    of a note that names the wrong side."""

    absence: float = ABSENCE
    distractors: float = 0.15
    wrong_side: float = 0.0


def generate(
    n: int,
    seed: int,
    parameters: str = "P0",
    image_size: int = 64,
    split: Split = Split.TRAIN,
    knobs: Knobs = Knobs(),
) -> Iterator[SynthCase]:
    """Yield n cases; the first ones do not depend on n.

    Args:
        n: Number of cases.
        seed: Zero or positive.
        parameters: Name of the parameter set, "P0" or "P1".
        image_size: Side of the film in pixels, 32 to 224.
        split: Seed namespace.
        knobs: Harder or easier rendering; the latents stay the same.

    Raises:
        ValueError: Unknown parameter set, negative seed or size out of range.
    """
    latents = draw_latents(
        n, generator(split, seed, _LATENTS), parameter_set(parameters)
    )
    for index in range(n):
        yield _case(
            index,
            latents.row(index),
            int(latents.label[index]),
            (seed, parameters, image_size, split, knobs),
        )


def _case(
    index: int,
    latents: CaseLatents,
    label: int,
    setting: tuple[int, str, int, Split, Knobs],
) -> SynthCase:
    """Render everything that one row of latents shows."""
    seed, parameters, image_size, split, knobs = setting
    person = generator(split, seed, _CASE, index, _PERSON)
    streams = {
        kind: generator(split, seed, _CASE, index, kind)
        for kind in (_FILM, _NOTE, _VALUES)
    }
    age, sex, film_at = _person(person)
    birth_date = (film_at - timedelta(days=365.25 * age + 180)).date()
    lobe = _LOBES[int(person.random() * len(_LOBES))]
    see, show = latents.seen_severity, latents.seen_pattern
    film = render_film(
        Severity(see[0]),
        ImagePattern(show[0]),
        lobe,
        streams[_FILM],
        image_size,
        knobs.distractors,
    )
    note = write_note(
        Severity(see[1]),
        Syndrome(show[1]),
        lobe,
        age,
        sex,
        streams[_NOTE],
        knobs.wrong_side,
    )
    values, absent = measure(
        Severity(see[2]),
        CellPattern(show[2]),
        film_at,
        streams[_VALUES],
        knobs.absence,
    )
    return SynthCase(
        case_id=f"synth-{parameters.lower()}-{split.value}-{seed}-{index:06d}",
        parameters=parameters,
        split=split,
        label=label,
        latents=latents,
        image=film.image,
        mask=film.mask,
        lobe=lobe,
        distractors=film.distractors,
        note=note,
        values=values,
        absent=absent,
        age_years=age,
        sex=sex,
        birth_date=birth_date,
        film_at=film_at,
        note_at=film_at + timedelta(minutes=int(5 + person.random() * 40)),
        cutoff=film_at + timedelta(hours=1),
    )


def _person(rng: np.random.Generator) -> tuple[int, str, datetime]:
    """Age, sex and time of the film: noise, the same for every label."""
    age = int(rng.integers(20, 90))
    sex = "female" if rng.random() < 0.5 else "male"
    return age, sex, _FIRST_DAY + timedelta(minutes=int(rng.integers(0, 3 * 525_600)))
