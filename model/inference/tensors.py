"""PatientRecord to tensors: deterministic, and nothing is filled in.

A missing modality gives ``present`` False and padding only. Which films, which part of
a long note and which measurements are read is decided in ``views.py``,
``note_windows.py`` and ``value_rows.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fhir_adapters.patient_record import Modality, PatientRecord
from model.inference.note_windows import TextRow, text_row
from model.inference.value_rows import ValuesRow, interpretation, values_row
from model.inference.views import View, chosen_images, chosen_views, letterbox
from model.inference.vocabulary import InputVocabulary
from model.network.inputs import VIEW_KINDS, TriModalInputs

__all__ = ["chosen_images", "interpretation", "letterbox", "to_tensors"]


def to_tensors(
    records: Sequence[PatientRecord], vocabulary: InputVocabulary
) -> TriModalInputs:
    """One batch of B records.

    Args:
        records: At least one.
        vocabulary: Fitted, or loaded with the checkpoint.

    Returns:
        Tensors padded to the most views, the longest note and the most values of this
        batch; see :class:`TriModalInputs` for shapes.
    """
    presence = [record.presence() for record in records]
    films = [
        chosen_views(record, vocabulary.max_views) if here[Modality.IMAGE] else ()
        for record, here in zip(records, presence)
    ]
    texts = [
        text_row(record.notes, vocabulary) if here[Modality.TEXT] else TextRow()
        for record, here in zip(records, presence)
    ]
    rows = [
        values_row(record, vocabulary) if here[Modality.VALUES] else ValuesRow()
        for record, here in zip(records, presence)
    ]
    present = [
        [bool(views), bool(text.ids), bool(row.ids)]
        for views, text, row in zip(films, texts, rows)
    ]
    pixels, box = _images(films, vocabulary.image_size)
    kinds = [[VIEW_KINDS.index(view.kind) for view in views] for views in films]
    return TriModalInputs(
        pixels=pixels,  # (B, V, 1, S, S)
        pixel_mask=_filled([len(views) for views in films]),  # (B, V)
        box=box,  # (B, V, 4)
        input_ids=_padded([t.ids for t in texts], vocabulary.padding),  # (B, Nt)
        attn=_filled([len(t.ids) for t in texts]),  # (B, Nt)
        word=_padded([t.word for t in texts], -1),  # (B, Nt)
        word_start=_padded([t.start for t in texts], 0),  # (B, Nt)
        word_end=_padded([t.end for t in texts], 0),  # (B, Nt)
        note=_padded([t.note for t in texts], 0),  # (B, Nt)
        code=_padded([r.code for r in rows], 0),  # (B, Ns)
        value=_values(rows, vocabulary.columns),  # (B, Ns, K)
        dt_hours=_padded([r.hours for r in rows], 0.0),  # (B, Ns)
        flag=_padded([r.flag for r in rows], 0),  # (B, Ns)
        kind=_padded([r.kind for r in rows], 0),  # (B, Ns)
        obs_mask=_filled([len(r.code) for r in rows]),  # (B, Ns)
        present=torch.tensor(present),  # (B, 3)
        image_ids=tuple(
            tuple(view.image.provenance.reference for view in views) for views in films
        ),
        note_ids=tuple(
            tuple(n.provenance.reference for n in record.notes) for record in records
        ),
        value_ids=tuple(tuple(row.ids) for row in rows),
        view_kind=_padded(kinds, 0),  # (B, V)
        view_dt=_padded([[v.days for v in views] for views in films], 0.0),  # (B, V)
        section=_padded([t.section for t in texts], 0),  # (B, Nt)
        window=_padded([t.window for t in texts], 0),  # (B, Nt)
    )


def _images(films: Sequence[Sequence[View]], size: int) -> tuple[Tensor, Tensor]:
    """Pixels (B, V, 1, S, S) and boxes (B, V, 4), V the most views of a record."""
    views = max(1, *(len(chosen) for chosen in films), 1)
    pixels = np.zeros((len(films), views, 1, size, size), dtype=np.float32)
    box = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (len(films), views, 1))
    for row, chosen in enumerate(films):
        for number, view in enumerate(chosen):
            square, place = letterbox(view.image.pixels, size)
            pixels[row, number, 0], box[row, number] = square, place
    return torch.from_numpy(pixels), torch.from_numpy(box)


def _values(rows: Sequence[ValuesRow], columns: int) -> Tensor:
    """(B, Ns, K), zero where nothing is."""
    width = max(1, *(len(row.code) for row in rows), 1)
    value = torch.zeros(len(rows), width, columns)
    for number, row in enumerate(rows):
        if row.value:
            value[number, : len(row.value)] = torch.from_numpy(np.stack(row.value))
    return value


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
