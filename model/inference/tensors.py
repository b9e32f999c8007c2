"""PatientRecord to tensors: deterministic, and nothing is filled in.

A missing modality gives ``present`` False and padding only. A measurement whose code
the vocabulary does not know gets no token (a measured value without a statistic has no
meaning to the model); age and sex are tokens only beside at least one measured value,
so that a record without measurements is not a record with "values".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fhir_adapters.patient_record import (
    ChestImage,
    CodedValue,
    Modality,
    PatientRecord,
)
from model.inference.vocabulary import (
    AGE,
    CLS,
    PAD,
    SEP,
    SEX,
    SEX_NUMBERS,
    InputVocabulary,
)
from model.network.inputs import FLAGS, KINDS, TriModalInputs

Pixels = NDArray[np.float32]
Box = tuple[float, float, float, float]

_FRONTAL = frozenset({"PA", "AP", "FRONTAL"})


@dataclass(slots=True)
class _TextRow:
    """Word pieces of one record over all its notes."""

    ids: list[int] = field(default_factory=list)
    word: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    note: list[int] = field(default_factory=list)

    def add(self, piece: int, word: int, start: int, end: int, note: int) -> None:
        """Append one token."""
        self.ids.append(piece)
        self.word.append(word)
        self.start.append(start)
        self.end.append(end)
        self.note.append(note)


@dataclass(slots=True)
class _ValuesRow:
    """Measurements of one record."""

    code: list[int] = field(default_factory=list)
    value: list[NDArray[np.float32]] = field(default_factory=list)
    hours: list[float] = field(default_factory=list)
    flag: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def letterbox(pixels: Pixels, size: int) -> tuple[Pixels, Box]:
    """Fit an image into a square without distortion, by area resampling.

    Args:
        pixels: (H, W) in [0, 1].
        size: Side of the square.

    Returns:
        (size, size) pixels with the padding 0, standardised by the mean and deviation
        of the content; and the square's place on the native image as (left, top,
        width, height) in fractions of its width and height.
    """
    height, width = pixels.shape
    side = max(height, width)
    inner_w = max(1, round(width * size / side))
    inner_h = max(1, round(height * size / side))
    left, top = (size - inner_w) // 2, (size - inner_h) // 2
    content: Pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    if (inner_h, inner_w) != (height, width):
        method = Image.Resampling.BOX if side > size else Image.Resampling.BILINEAR
        resized = Image.fromarray(content).resize((inner_w, inner_h), method)
        content = np.asarray(resized, dtype=np.float32)
    content = (content - content.mean()) / (content.std() + 1e-3)
    square = np.zeros((size, size), dtype=np.float32)
    square[top : top + inner_h, left : left + inner_w] = content
    box = (-left / inner_w, -top / inner_h, size / inner_w, size / inner_h)
    return square, box


def chosen_images(record: PatientRecord, views: int) -> tuple[ChestImage, ...]:
    """The films that the model reads: frontal views first, newest order kept."""
    frontal = [i for i in record.images if (i.view or "").upper() in _FRONTAL]
    other = [i for i in record.images if i not in frontal]
    return tuple((frontal + other)[:views])


def to_tensors(
    records: Sequence[PatientRecord], vocabulary: InputVocabulary
) -> TriModalInputs:
    """One batch of B records.

    Args:
        records: At least one.
        vocabulary: Fitted, or loaded with the checkpoint.

    Returns:
        Tensors padded to the longest note and the most values of this batch; see
        :class:`TriModalInputs` for shapes.
    """
    presence = [record.presence() for record in records]
    films = [_images(r, p, vocabulary) for r, p in zip(records, presence)]
    texts = [_text(r, p, vocabulary) for r, p in zip(records, presence)]
    rows = [_values(r, p, vocabulary) for r, p in zip(records, presence)]
    present = [
        [bool(ids), bool(text.ids), bool(row.ids)]
        for (_, _, ids), text, row in zip(films, texts, rows)
    ]
    bins = vocabulary.bins
    width = max(1, *(len(row.ids) for row in rows))
    value = torch.zeros(len(rows), width, bins)  # (B, Ns, K)
    for number, row in enumerate(rows):
        if row.value:
            value[number, : len(row.value)] = torch.from_numpy(np.stack(row.value))
    views = torch.tensor([[len(ids)] for _, _, ids in films])  # (B, 1)
    return TriModalInputs(
        pixels=torch.from_numpy(np.stack([f[0] for f in films])),  # (B, V, 1, H, W)
        pixel_mask=torch.arange(vocabulary.max_views) < views,  # (B, V)
        box=torch.from_numpy(np.stack([f[1] for f in films])),  # (B, V, 4)
        input_ids=_padded([t.ids for t in texts], PAD),  # (B, Nt)
        attn=_filled([len(t.ids) for t in texts]),  # (B, Nt)
        word=_padded([t.word for t in texts], -1),  # (B, Nt)
        word_start=_padded([t.start for t in texts], 0),  # (B, Nt)
        word_end=_padded([t.end for t in texts], 0),  # (B, Nt)
        note=_padded([t.note for t in texts], 0),  # (B, Nt)
        code=_padded([r.code for r in rows], 0),  # (B, Ns)
        value=value,
        dt_hours=_padded([r.hours for r in rows], 0.0),  # (B, Ns)
        flag=_padded([r.flag for r in rows], 0),  # (B, Ns)
        kind=_padded([r.kind for r in rows], 0),  # (B, Ns)
        obs_mask=_filled([len(r.ids) for r in rows]),  # (B, Ns)
        present=torch.tensor(present),  # (B, 3)
        image_ids=tuple(ids for _, _, ids in films),
        note_ids=tuple(
            tuple(n.provenance.reference for n in record.notes) for record in records
        ),
        value_ids=tuple(tuple(row.ids) for row in rows),
    )


def _images(
    record: PatientRecord, presence: dict[Modality, bool], vocabulary: InputVocabulary
) -> tuple[Pixels, NDArray[np.float32], tuple[str, ...]]:
    """Pixels (V, 1, S, S), boxes (V, 4) and the references of the views used."""
    size, views = vocabulary.image_size, vocabulary.max_views
    pixels = np.zeros((views, 1, size, size), dtype=np.float32)
    boxes = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (views, 1))
    if not presence[Modality.IMAGE]:
        return pixels, boxes, ()
    used = chosen_images(record, views)
    for number, image in enumerate(used):
        pixels[number, 0], boxes[number] = letterbox(image.pixels, size)
    return pixels, boxes, tuple(image.provenance.reference for image in used)


def _text(
    record: PatientRecord, presence: dict[Modality, bool], vocabulary: InputVocabulary
) -> _TextRow:
    """[CLS] note [SEP] note [SEP] ..., cut where the vocabulary's limit is reached."""
    row = _TextRow()
    if not presence[Modality.TEXT]:
        return row
    row.add(CLS, -1, 0, 0, 0)
    words = 0
    for number, note in enumerate(record.notes):
        encoded = vocabulary.tokenizer.encode(note.text, add_special_tokens=False)
        numbers = [0 if w is None else w for w in encoded.word_ids]
        spans = _word_spans(numbers, encoded.offsets)
        for piece, word in zip(encoded.ids, numbers):
            if len(row.ids) >= vocabulary.max_tokens - 1:
                break
            row.add(piece, words + word, *spans[word], number)
        words += len(spans)
        if len(row.ids) < vocabulary.max_tokens:
            row.add(SEP, -1, 0, 0, number)
    return row if words else _TextRow()


def _word_spans(
    words: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Characters of each word, from the characters of its pieces."""
    spans: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(words, offsets):
        first, last = spans.get(word, (start, end))
        spans[word] = (min(first, start), max(last, end))
    return spans


def _values(
    record: PatientRecord, presence: dict[Modality, bool], vocabulary: InputVocabulary
) -> _ValuesRow:
    """Measured values with a known code, then age and sex beside them."""
    row = _ValuesRow()
    if not presence[Modality.VALUES]:
        return row
    known = [v for v in record.values if v.loinc in vocabulary.code_rows]
    for item in known[: vocabulary.max_values - 2]:
        age = (record.cutoff - item.measured_at).total_seconds() / 3600.0
        reference = item.provenance.reference
        _add_value(row, vocabulary, item.loinc, float(item.value), age, reference)
        row.flag[-1] = FLAGS.index(interpretation(item))
    if known:
        _add_demographics(row, record, vocabulary)
    return row


def _add_demographics(
    row: _ValuesRow, record: PatientRecord, vocabulary: InputVocabulary
) -> None:
    """Age and sex where the record states them; the reference is the patient's."""
    reference = f"Patient/{record.patient.patient_id}"
    years = record.patient.age_years(record.cutoff)
    sex = SEX_NUMBERS.get(record.patient.sex or "")
    for loinc, value in ((AGE, years), (SEX, sex)):
        if value is not None:
            _add_value(row, vocabulary, loinc, value, 0.0, reference)


def _add_value(
    row: _ValuesRow,
    vocabulary: InputVocabulary,
    loinc: str,
    value: float,
    hours: float,
    reference: str,
) -> None:
    """Append one measurement without a flag."""
    number = vocabulary.code_rows[loinc]
    statistic = vocabulary.codes[number]
    row.code.append(number)
    row.value.append(statistic.encode(value))
    row.hours.append(max(0.0, hours))
    row.flag.append(0)
    row.kind.append(KINDS.index(statistic.kind))
    row.ids.append(reference)


def interpretation(item: CodedValue) -> str:
    """LL, L, N, H or HH as sent, else by the sent range; empty when neither is known.

    Deriving it keeps one meaning for both kinds of source: a laboratory that sends the
    range only and one that sends the flag only.
    """
    if item.interpretation in FLAGS:
        return item.interpretation or ""
    if item.reference_low is not None and item.value < item.reference_low:
        return "L"
    if item.reference_high is not None and item.value > item.reference_high:
        return "H"
    known = item.reference_low is not None or item.reference_high is not None
    return "N" if known else ""


def _padded(rows: Sequence[Sequence[float]], filler: float) -> Tensor:
    """Rows of different length as one tensor, at least one column wide."""
    width = max(1, *(len(row) for row in rows), 1)
    full = [[*row, *[filler] * (width - len(row))] for row in rows]
    kind = torch.float32 if isinstance(filler, float) else torch.long
    return torch.tensor(full, dtype=kind)


def _filled(lengths: Sequence[int]) -> Tensor:
    """(B, N) bool: True in the first ``length`` columns of each row."""
    width = max(1, *lengths, 1)
    return torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
