"""Training records as other sites would have sent them: same evidence, another look.

A model that has seen one scanner, one form of note and one laboratory takes their
habits for part of the evidence. Before training, a share of the records is therefore
changed in ways that carry no information on the label:

- *film*: turned, scaled and moved a little, another tone curve, grain, a burnt-in tag;
  the lesion mask moves along;
- *note*: headings in another case, a line of the exporting system in front;
- *values*: older by some hours, without the laboratory's flags and ranges, or few of
  them, so that each value learns to speak for itself.

The evaluation measures the cost of such changes with code and wording of its own
(:mod:`model.evaluation.robustness`): nothing here is shared with it; angles, curves and
tags are drawn from ranges, and the lines in front of notes are other lines. Held-out
records are never changed, so calibration and figures are about plain records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fhir_adapters.patient_record import ChestImage, ClinicalNote, PatientRecord
from fhir_adapters.resources.sections import find_sections
from model.errors import ConfigurationError
from model.training.training_set import Evidence, TrainingSet

Plane = NDArray[np.float32]

#: Lines that exporting systems put before a note; none of them tells anything.
HEADER_LINES = (
    "Printed from the ward archive",
    "Copy for the general practice",
    "Scanned document, page 1 of 1",
    "Transcribed by dictation service",
    "-- begin of record --",
)
_DEGREES = 14.0  # largest turn to either side
_SCALE = 0.06  # largest change of size
_MOVE = 0.03  # largest shift, in shares of the side
_GAMMA = (0.7, 1.4)
_CONTRAST = (0.7, 1.05)
_GRAIN = 0.03  # largest standard deviation of added grain
_TAG_CHANCE = 0.5
_HOURS = 6.0
_SPARSE_CHANCE = 0.5
_KEPT = (0.1, 0.8)  # share of the values that a sparse chart keeps
_HEADING = re.compile(r"^[A-Za-z][A-Za-z &]{2,38}(?=:)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Variety:
    """Share of the records whose film, note or values are changed; each on its own."""

    film: float = 0.6
    note: float = 0.4
    values: float = 0.4

    def __post_init__(self) -> None:
        """Refuse shares that are none.

        Raises:
            ConfigurationError: a share outside 0 to 1.
        """
        if not all(0 <= x <= 1 for x in (self.film, self.note, self.values)):
            raise ConfigurationError("shares of changed records lie between 0 and 1")


def varied(data: TrainingSet, variety: Variety, seed: int) -> TrainingSet:
    """The same set with a share of its records seen otherwise.

    Args:
        data: Labels, findings and order stay; masks move with their films, planted
            passages with the text.
        variety: How many are changed.
        seed: Of the choice and of every change; the same seed, the same records.
    """
    records: list[PatientRecord] = []
    masks = None if data.lesion_masks is None else data.lesion_masks.copy()
    evidence = list(data.evidence) if data.evidence is not None else None
    for row, record in enumerate(data.records):
        random = np.random.default_rng([seed, row])
        film, note, values = random.random(3)
        if film < variety.film and record.images:
            mask = None if masks is None else masks[row]
            record, mask = _other_film(record, mask, random)
            if masks is not None and mask is not None:
                masks[row] = mask
        if note < variety.note and record.notes:
            record, moved = _other_note(record, random)
            if evidence is not None:
                evidence[row] = _moved(evidence[row], moved)
        if values < variety.values and record.values:
            record = _other_laboratory(record, random)
        records.append(record)
    return replace(
        data,
        records=records,
        lesion_masks=masks,
        evidence=None if evidence is None else tuple(evidence),
    )


def _other_film(
    record: PatientRecord, mask: NDArray[np.bool_] | None, random: np.random.Generator
) -> tuple[PatientRecord, NDArray[np.bool_] | None]:
    """All films of a record moved alike, each with a tone of its own."""
    place = _placement(random)
    images: list[ChestImage] = []
    for image in record.images:
        pixels = _toned(_placed(image.pixels, place, Image.Resampling.BILINEAR), random)
        images.append(replace(image, pixels=pixels))
    if mask is not None:
        moved = _placed(mask.astype(np.float32), place, Image.Resampling.NEAREST)
        mask = moved > 0.5
    return replace(record, images=tuple(images)), mask


def _placement(random: np.random.Generator) -> tuple[float, float, float, float]:
    """Angle in radians, scale, and shift across and down in shares of the side."""
    angle = np.deg2rad(random.uniform(-_DEGREES, _DEGREES))
    scale = random.uniform(1 - _SCALE, 1 + _SCALE)
    across, down = random.uniform(-_MOVE, _MOVE, 2)
    return float(angle), float(scale), float(across), float(down)


def _placed(
    pixels: Plane,
    place: tuple[float, float, float, float],
    resample: Image.Resampling,
) -> Plane:
    """(H, W) turned around its middle, scaled and moved; dark where nothing was."""
    angle, scale, across, down = place
    height, width = pixels.shape
    x, y = width / 2, height / 2
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # where each pixel of the result comes from
    back = (
        *(cos, sin, x - cos * (x + across * width) - sin * (y + down * height)),
        *(-sin, cos, y + sin * (x + across * width) - cos * (y + down * height)),
    )
    source = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    result = source.transform(source.size, Image.Transform.AFFINE, back, resample)
    return np.asarray(result, dtype=np.float32)


def _toned(pixels: Plane, random: np.random.Generator) -> Plane:
    """Another tone curve and grain, and for half of the films a tag in a corner."""
    curve = np.clip(pixels, 0, 1) ** np.float32(random.uniform(*_GAMMA))
    contrast = np.float32(random.uniform(*_CONTRAST))
    mean = np.float32(curve.mean())
    toned = mean + contrast * (curve - mean) + np.float32(random.uniform(-0.04, 0.04))
    grain = random.normal(0, random.uniform(0, _GRAIN), pixels.shape)
    toned = toned + grain.astype(np.float32)
    if random.random() < _TAG_CHANCE:
        toned = _tagged(toned, random)
    result: Plane = np.clip(toned, 0, 1).astype(np.float32)
    return result


def _tagged(pixels: Plane, random: np.random.Generator) -> Plane:
    """Some bright marks of random size near one of the corners, as letters would be."""
    result = pixels.copy()
    height, width = pixels.shape
    top = height * random.uniform(0.01, 0.08)
    left = width * random.uniform(0.02, 0.10)
    for _ in range(int(random.integers(1, 5))):
        tall = max(1, round(height * random.uniform(0.03, 0.09)))
        wide = max(1, round(width * random.uniform(0.015, 0.05)))
        rows, columns = slice(int(top), int(top) + tall), slice(
            int(left), int(left) + wide
        )
        result[rows, columns] = np.float32(random.uniform(0.8, 1.0))
        left += wide + width * random.uniform(0.01, 0.03)
    flips = random.random(2) < 0.5
    # the same marks, in whichever corner: mirror the picture, draw, mirror it back
    drawn = result != pixels
    for axis, flip in enumerate(flips):
        if flip:
            drawn = np.flip(drawn, axis)
            result = np.flip(result, axis)
    tagged: Plane = np.where(drawn, result, pixels)
    return tagged


def _other_note(
    record: PatientRecord, random: np.random.Generator
) -> tuple[PatientRecord, int]:
    """Every note in another form; also by how much the first note's text moved on."""
    capitals, header = random.random() < 0.6, random.random() < 0.6
    line = HEADER_LINES[int(random.integers(len(HEADER_LINES)))] + "\n"
    front = line if header else ""
    notes = tuple(_reformed(note, front, capitals) for note in record.notes)
    return replace(record, notes=notes), len(front)


def _reformed(note: ClinicalNote, front: str, capitals: bool) -> ClinicalNote:
    text = note.text
    if capitals:  # upper case keeps the length of ASCII letters: places do not move
        text = _HEADING.sub(lambda found: found.group(0).upper(), text)
    text = front + text
    return replace(note, text=text, sections=find_sections(text))


def _moved(evidence: Evidence, by: int) -> Evidence:
    return replace(
        evidence, spans=tuple((start + by, end + by) for start, end in evidence.spans)
    )


def _other_laboratory(
    record: PatientRecord, random: np.random.Generator
) -> PatientRecord:
    """Later results, without flags or without ranges, and sometimes only a few."""
    later = timedelta(hours=float(random.uniform(0, _HOURS)))
    no_flags, no_ranges = random.random(2) < 0.7
    kept = record.values
    if random.random() < _SPARSE_CHANCE:  # a small practice measures little
        chosen = random.random(len(kept)) < random.uniform(*_KEPT)
        chosen[int(random.integers(len(kept)))] = True
        kept = tuple(v for v, keep in zip(kept, chosen) if keep)
    values = tuple(
        replace(
            value,
            measured_at=value.measured_at - later,
            interpretation=None if no_flags else value.interpretation,
            reference_low=None if no_ranges else value.reference_low,
            reference_high=None if no_ranges else value.reference_high,
        )
        for value in kept
    )
    return replace(record, values=values, history=values)
