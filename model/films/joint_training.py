"""A tri-modal network around an encoder that was taught real films.

The image encoder stays as it is. Its pool learns where on a film the answer lies, note
and values get encoders of their own (S1), and the fusion learns on cached tokens (S3).
The text encoder is a small one from scratch, or a BERT folder that was taught language
before; the latter stays as it is, too, so that what it knows of words that no synthetic
note holds is not unlearnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.films.case_sets import CaseSet, shuffled_films
from model.films.case_tokens import case_tokens, film_tokens, note_states, prepared
from model.films.film_model import FilmRun
from model.films.film_reading import film_reading
from model.inference.local_pieces import read_pieces
from model.inference.vocabulary import InputVocabulary, fit_codes, fit_pieces
from model.network.config import TextConfig, TriModalConfig, ValuesConfig
from model.network.fusion import TriModalModel
from model.network.inputs import IMAGE, MODALITIES, TEXT, VALUES
from model.network.local_weights import load_text_weights, read_text_config
from model.training.finding_heads import FindingHeads
from model.training.optimise import Schedule, optimise
from model.training.stages import Prepared, train_encoder, train_fusion
from model.training.synthetic_set import LABEL
from model.training.training_set import Finding

#: Keeps the logarithm of a share finite.
_FLOOR = 1e-6
_BINS = 8
_PIECES = 2000


@dataclass(frozen=True, slots=True)
class JointSettings:
    """Schedules and seed.

    ``frozen_text`` keeps the text stack as it is, ``lesion`` weighs the pool's patches.
    Frozen encoders compute in ``bfloat16`` while others learn on what they say; what is
    calibrated and served computes in float32.
    """

    seed: int = 7
    pool: Schedule = Schedule(epochs=12, rate=1e-2, batch=128, average=0.98)
    text: Schedule = Schedule(epochs=3, rate=1e-3, batch=64)
    values: Schedule = Schedule(epochs=3, rate=2e-3, batch=64)
    pooled: Schedule = Schedule(epochs=14, rate=2e-3, batch=128, average=0.98)
    tokens: Schedule = Schedule(epochs=2, rate=1e-3, batch=48, average=0.95)
    dropout: float = 0.3
    frozen_text: bool = False
    lesion: float = 1.0
    threads: int = 1
    progress: bool = True
    bfloat16: bool = True

    def for_bert(self) -> JointSettings:
        """The same for a text stack that knows language already, and keeps it."""
        text = Schedule(epochs=8, rate=1e-3, batch=32)
        return replace(self, text=text, frozen_text=True)


def network(
    run: FilmRun, cases: CaseSet, bert: Path | None = None
) -> tuple[TriModalModel, InputVocabulary]:
    """A network around the film encoder: its width, its pool, its weights.

    Args:
        run: The encoder.
        cases: Training cases, for vocabulary and statistics.
        bert: Folder of a text encoder; None builds a small one without knowledge.

    Raises:
        EncoderWeightsError: the folder holds no BERT that fits.
        RemoteModelError: there is no such folder.
    """
    films, records = run.model.config, cases.data.records
    if bert is not None:
        text = read_text_config(bert, windows=2)
        pieces, lowercase = read_pieces(bert)
    else:
        notes = (note.text for record in records for note in record.notes)
        pieces, lowercase = fit_pieces(notes, _PIECES), True
        text = TextConfig(vocabulary=len(pieces))
    vocabulary = InputVocabulary(
        pieces=pieces,
        codes=fit_codes(records, _BINS),
        image_size=films.image.size,
        max_tokens=text.max_tokens,
        max_windows=text.windows,
        bins=_BINS,
        lowercase=lowercase,
    )
    config = TriModalConfig(
        labels=(LABEL,),
        width=films.width,
        image=films.image,
        text=text,
        values=ValuesConfig(codes=len(vocabulary.codes), bins=_BINS),
    )
    model = TriModalModel(config)
    model.image_encoder.load_state_dict(run.model.encoder.state_dict())
    model.pools[IMAGE].load_state_dict(run.model.pool.state_dict())
    if bert is not None:
        load_text_weights(model.text_encoder, bert)
    return model, vocabulary


def teach(
    model: TriModalModel,
    vocabulary: InputVocabulary,
    training: CaseSet,
    held_out: CaseSet,
    settings: JointSettings,
) -> dict[str, Any]:
    """S1 for pool, note and values, S3 for the fusion; plain JSON of what happened.

    Args:
        model: From :func:`network`; all but the image encoder changes.
        vocabulary: Of that model.
        training: What it learns from.
        held_out: Joined cases of other patients: how well their films are read says
            how far the fusion may trust a film. No weight sees them.
        settings: Schedules and seed.
    """
    data = prepared(training.data, vocabulary)
    quick = {"progress": settings.progress, "bfloat16": settings.bfloat16}
    films = film_tokens(model, training, vocabulary, **quick)
    figures: dict[str, Any] = {"pool": teach_pool(model, films, training, settings)}
    seen = held_out.subset(np.flatnonzero(held_out.real))
    others = film_tokens(model, seen, vocabulary, **quick)
    figures["film_reading"] = reading = film_reading(
        model, (films, training), (others, seen)
    )
    questions, states = training.data.questions(MODALITIES[TEXT]), None
    if settings.frozen_text:
        states = note_states(model, data.inputs, **quick)
        figures["text"] = _teach_notes(model, data, states, questions, settings)
    else:
        figures["text"], _ = train_encoder(
            model,
            TEXT,
            data,
            questions,
            settings.text,
            seed=settings.seed,
            progress=settings.progress,
        )
    figures["values"], _ = train_encoder(
        model,
        VALUES,
        data,
        training.data.questions(MODALITIES[VALUES]),
        settings.values,
        seed=settings.seed,
        progress=settings.progress,
    )
    film = shuffled_films(training, reading["shuffled"], settings.seed)
    figures["fusion"] = train_fusion(
        model,
        data,
        (settings.pooled, settings.tokens),
        dropout=settings.dropout,
        seed=settings.seed,
        progress=settings.progress,
        tokens=case_tokens(model, data.inputs, films, film, progress=settings.progress),
    )
    model.eval()
    return figures


def teach_pool(
    model: TriModalModel, films: Tensor, cases: CaseSet, settings: JointSettings
) -> list[float]:
    """Teach the film's pool on cached tokens; returns the loss of each epoch.

    It is asked what a film shows; where there is a box or a mask, minus the logarithm
    of the share of its attention inside is added. A map over patches can then point.

    Args:
        model: Its first pool changes.
        films: (m, N, D).
        cases: Whose films.
        settings: Schedule, seed, and the weight of the patches.
    """
    one = cases.subset(cases.one_of_each_film())
    heads = FindingHeads(model.config.width, one.film_questions())
    lesion = torch.from_numpy(one.lesion)  # (m, N)
    pool = model.pools[IMAGE]
    model.train()

    def loss(rows: Tensor) -> Tensor:
        x = films[rows]  # (b, N, D)
        mask = torch.ones(x.shape[:2], dtype=torch.bool)
        total = heads.loss(pool(x, mask), rows)
        covered = lesion[rows]  # (b, N)
        boxed = covered.any(1)  # (b,)
        if settings.lesion and bool(boxed.any()):
            score = pool.get_submodule("score")(x[boxed]).squeeze(-1)  # (k, N)
            share = (score.softmax(-1) * covered[boxed]).sum(-1)  # (k,)
            total = total - settings.lesion * (share + _FLOOR).log().mean()
        return total

    return optimise(
        "S1 pool",
        [*pool.parameters(), *heads.parameters()],
        len(one),
        loss,
        settings.pool,
        seed=settings.seed,
        progress=settings.progress,
    )


def _teach_notes(
    model: TriModalModel,
    data: Prepared,
    states: Tensor,
    questions: Sequence[Finding],
    settings: JointSettings,
) -> list[float]:
    """S1 of a note whose stack stays as it is: projection and pool, on known states.

    Args:
        model: The projection and the pool of its notes change.
        data: Training records.
        states: (n, Nt, W) of the frozen stack.
        questions: What a note is asked.
        settings: Schedule and seed.

    Returns:
        Loss of each epoch.
    """
    encoder, pool = model.text_encoder, model.pools[TEXT]
    heads = FindingHeads(model.config.width, questions)
    model.train()

    def loss(rows: Tensor) -> Tensor:
        mask = data.inputs.attn[rows]  # (b, Nt)
        longest = int(mask.sum(1).max())
        tokens = encoder.tokens(states[rows, :longest].float())  # (b, Nt', D)
        return heads.loss(pool(tokens, mask[:, :longest]), rows)

    parts = (encoder.project, encoder.norm, pool, heads)
    return optimise(
        "S1 notes",
        [parameter for part in parts for parameter in part.parameters()],
        len(states),
        loss,
        settings.text,
        seed=settings.seed,
        progress=settings.progress,
    )
