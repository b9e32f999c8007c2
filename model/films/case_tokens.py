"""Tokens of many cases, every film encoded once however many cases show it.

A film costs the encoder more than note and values together, and a film of a hundred
and forty patches more memory than anything else: cases that share a film share its
tokens until a batch is picked. n cases, m films, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fhir_adapters.patient_record import PatientRecord
from model.films.case_sets import CaseSet
from model.inference.tensors import to_tensors
from model.inference.vocabulary import InputVocabulary
from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import IMAGE, TEXT, VALUES, TriModalInputs
from model.training.cached_tokens import padded_to
from model.training.stages import Prepared
from model.training.training_set import TrainingSet

_BATCH = 64
#: Side of the pixels that stand in for films which are encoded apart, in pixels.
_STAND_IN = 8


def without_films(
    records: Sequence[PatientRecord], vocabulary: InputVocabulary
) -> TriModalInputs:
    """Tensors of n records whose pixels are stand-ins; presence is as it was."""
    return to_tensors(records, replace(vocabulary, image_size=_STAND_IN))


def prepared(data: TrainingSet, vocabulary: InputVocabulary) -> Prepared:
    """A training set as tensors without films."""
    targets, known = data.target_tensors()
    return Prepared(without_films(data.records, vocabulary), targets, known, None)


@torch.no_grad()
def film_tokens(
    model: TriModalModel,
    cases: CaseSet,
    vocabulary: InputVocabulary,
    *,
    progress: bool = True,
    bfloat16: bool = False,
) -> Tensor:
    """Patch tokens of every film: (m, N, D).

    Args:
        model: Its image encoder is used in evaluation mode.
        cases: Whose films.
        vocabulary: Says at what size films are read.
        progress: Draw a bar.
        bfloat16: Compute in bfloat16, for training only: three times as fast on a
            processor that knows it, and as slow as ever on others.
    """
    model.eval()
    rows = cases.one_of_each_film().tolist()
    found = []
    starts = range(0, len(rows), _BATCH)
    for start in tqdm(starts, desc="films", disable=not progress, leave=False):
        records = [cases.data.records[i] for i in rows[start : start + _BATCH]]
        inputs = to_tensors(records, vocabulary)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            tokens, _ = model.encode_modality(inputs, IMAGE)
        found.append(tokens.float())
    return torch.cat(found)


@torch.no_grad()
def note_states(
    model: TriModalModel,
    inputs: TriModalInputs,
    *,
    progress: bool = True,
    bfloat16: bool = False,
) -> Tensor:
    """What the text stack makes of every note, before it is projected: (n, Nt, W).

    Args:
        model: Its text encoder is used in evaluation mode.
        inputs: From :func:`without_films`.
        progress: Draw a bar.
        bfloat16: As for :func:`film_tokens`; the states are kept in it, too.
    """
    model.eval()
    kind = torch.bfloat16 if bfloat16 else torch.float32
    longest, found = inputs.input_ids.shape[1], []
    starts = range(0, len(inputs), _BATCH)
    for start in tqdm(starts, desc="notes", disable=not progress, leave=False):
        rows = torch.arange(start, min(start + _BATCH, len(inputs)))
        batch = inputs.select(rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            part = model.text_encoder.states(
                batch.input_ids, batch.attn, batch.window
            )  # (b, Nt', W)
        found.append(padded_to(part.to(kind), longest))
    return torch.cat(found)


@torch.no_grad()
def case_tokens(
    model: TriModalModel,
    inputs: TriModalInputs,
    films: Tensor,
    film: NDArray[np.int64],
    *,
    states: Tensor | None = None,
    progress: bool = True,
    bfloat16: bool = False,
) -> Tokens:
    """Tokens of n cases, padded to one length per modality.

    Args:
        model: Its encoders of note and values are used in evaluation mode.
        inputs: From :func:`without_films`.
        films: (m, N, D) from :func:`film_tokens`.
        film: (n,) the film of each case.
        states: (n, Nt, W) from :func:`note_states`, where they are known already.
        progress: Draw a bar.
        bfloat16: As for :func:`film_tokens`.
    """
    model.eval()
    parts: dict[int, list[tuple[Tensor, Tensor]]] = {TEXT: [], VALUES: []}
    starts = range(0, len(inputs), _BATCH)
    for start in tqdm(starts, desc="notes", disable=not progress, leave=False):
        rows = torch.arange(start, min(start + _BATCH, len(inputs)))
        batch = inputs.select(rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            if states is None:
                text = model.encode_modality(batch, TEXT)
            else:
                text = _projected(model, batch, states[rows])
            values = model.encode_modality(batch, VALUES)
        for m, (x, mask) in ((TEXT, text), (VALUES, values)):
            parts[m].append((x.float(), mask))
    words, word_mask = _stacked(parts[TEXT])  # (n, Nt, D), (n, Nt)
    items, item_mask = _stacked(parts[VALUES])  # (n, Ns, D), (n, Ns)
    image = films[torch.from_numpy(film)]  # (n, N, D)
    there = inputs.present[:, IMAGE : IMAGE + 1].expand(-1, image.shape[1])  # (n, N)
    return Tokens(image, words, items, there, word_mask, item_mask)


def _projected(
    model: TriModalModel, batch: TriModalInputs, states: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens and mask of a batch whose states (b, Nt, W) are known."""
    length = batch.attn.shape[1]
    here = batch.present[:, TEXT : TEXT + 1]  # (b, 1)
    text = model.text_encoder.tokens(states[:, :length].float(), batch.section)
    return text, batch.attn & here


def _stacked(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Batches of different length under each other."""
    longest = max(x.shape[1] for x, _ in parts)
    return (
        torch.cat([padded_to(x, longest) for x, _ in parts]),
        torch.cat([padded_to(mask, longest) for _, mask in parts]),
    )
