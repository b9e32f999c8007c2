"""Which modality and which word: attributions of one label's logit.

All of them need the encoders' tokens and the fusion module only: no raw encoder, no
hook, no shared state, so every function is thread-safe and repeats itself exactly.

Attribution is not attention (``attention.py``). Image regions are in ``grad_cam.py``,
measured values in ``left_out.py`` and ``value_path.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.explain.word_lists import STOP_WORDS
from model.inference.calibration import PATTERNS, Calibration
from model.jobs.explanation import ModalityShare, WordScore
from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import IMAGE, MODALITIES, TEXT, TriModalInputs

# |S|! (2 - |S|)! / 3!: weight of joining a coalition of |S| among three players.
SHAPLEY_WEIGHTS = (1 / 3, 1 / 6, 1 / 3)
PATH_STEPS = 6  # midpoints between zeroed tokens and the record's own


@dataclass(frozen=True, slots=True)
class Question:
    """One case and one label: what every explanation here starts from.

    ``inputs``, ``tokens`` and ``present`` hold exactly one record (B = 1); the tokens
    are ordinary float32 tensors, not inference-mode ones. ``column`` is the label's
    place among the logits.
    """

    model: TriModalModel
    calibration: Calibration
    inputs: TriModalInputs
    tokens: Tokens
    present: Tensor  # (1, 3) bool
    label: str
    column: int


@dataclass(frozen=True, slots=True)
class CoalitionValues:
    """What each of the 8 coalitions says, in PATTERNS order."""

    raw: tuple[float, ...]
    logit: tuple[float, ...]
    probability: tuple[float, ...]


def coalition_values(question: Question) -> CoalitionValues:
    """Raw and calibrated logit, and probability, of all 8 coalitions.

    A coalition is cut down to what is present, so an absent modality is a dummy
    player. One batch of 8 masked rows; each is calibrated for its own pattern.
    """
    allowed = torch.tensor(PATTERNS, device=question.present.device)  # (8, 3)
    used = allowed & question.present  # (8, 3)
    with torch.no_grad():
        output = question.model.fuse(question.tokens.repeat(len(PATTERNS)), used)
    raw = output.logits[:, question.column].double().tolist()  # (8,)
    platts = [question.calibration.of(p, question.label) for p in used.tolist()]
    return CoalitionValues(
        raw=tuple(raw),
        logit=tuple(platt.logit(x) for platt, x in zip(platts, raw)),
        probability=tuple(platt.probability(x) for platt, x in zip(platts, raw)),
    )


def shapley(values: Sequence[float]) -> tuple[float, float, float]:
    """Exact Shapley values of three players from the 8 values in PATTERNS order.

    They add up to the value of all three minus the value of none (efficiency).
    """
    shares = [0.0, 0.0, 0.0]
    for player in range(3):
        bit = 1 << player
        for coalition in range(8):
            if not coalition & bit:
                weight = SHAPLEY_WEIGHTS[coalition.bit_count()]
                gain = values[coalition | bit] - values[coalition]
                shares[player] += weight * gain
    return shares[0], shares[1], shares[2]


def modality_shares(values: CoalitionValues) -> tuple[ModalityShare, ...]:
    """Shapley value of each modality, on the calibrated logit and the probability."""
    by_logit, by_probability = shapley(values.logit), shapley(values.probability)
    return tuple(
        ModalityShare(name, by_logit[m], by_probability[m])
        for m, name in enumerate(MODALITIES)
    )


def path_gradient(question: Question, modality: int) -> Tensor:
    """Gradient at one modality's tokens, averaged over paths and coalitions.

    Integrated gradients (Sundararajan et al. 2017) from zeroed tokens to the record's,
    in each coalition that the modality can join, weighted as its Shapley value is.
    Times the token it divides the modality's own contribution among its tokens, as
    closely as PATH_STEPS midpoints approximate the path: layer normalisation makes the
    model jump next to zero, and that jump belongs to no token. The
    gradient at the full input alone does not: where film, note and values already say
    the same, the model is sure and every gradient vanishes.

    Args:
        question: The case.
        modality: IMAGE, TEXT or VALUES.

    Returns:
        (1, Nm, D); zeros where the modality is absent.
    """
    tokens, present = question.tokens, question.present
    rows = [
        (pattern, SHAPLEY_WEIGHTS[sum(pattern) - 1] / PATH_STEPS, step)
        for pattern in PATTERNS
        if pattern[modality]
        for step in range(PATH_STEPS)
    ]
    device = present.device
    along = torch.tensor([(step + 0.5) / PATH_STEPS for _, _, step in rows])
    weight = torch.tensor([share for _, share, _ in rows], device=device)  # (R,)
    used = torch.tensor([c for c, _, _ in rows], device=device) & present  # (R, 3)
    repeated = tokens.repeat(len(rows))
    content = list(repeated.content())
    leaf = (content[modality] * along.to(device)[:, None, None]).detach()  # (R, Nm, D)
    content[modality] = leaf.requires_grad_()
    with torch.enable_grad():
        image, text, values = content
        output = question.model.fuse(repeated.with_content(image, text, values), used)
        (gradient,) = torch.autograd.grad(
            (output.logits[:, question.column] * weight).sum(),
            leaf,
            allow_unused=True,
            materialize_grads=True,
        )
    total: Tensor = gradient.sum(0, keepdim=True)  # (1, Nm, D)
    return total


def image_path_gradient(question: Question) -> Tensor:
    """:func:`path_gradient` of the film: (1, Ni, D)."""
    return path_gradient(question, IMAGE)


def text_path_gradient(question: Question) -> Tensor:
    """:func:`path_gradient` of the note: (1, Nt, D)."""
    return path_gradient(question, TEXT)


def word_scores(
    question: Question, text_gradient: Tensor, text: Sequence[str]
) -> tuple[WordScore, ...]:
    """relu(gradient . token) of each word piece, summed over its word.

    Special tokens, padding, words without a letter or digit and stop words are left
    out; so are words with score 0.

    Args:
        question: The case.
        text_gradient: (1, Nt, D) from :func:`text_path_gradient`.
        text: The note texts, in the order of the inputs' notes.

    Returns:
        Scores with character offsets into the original notes, in reading order.
    """
    inputs = question.inputs
    relevance = (text_gradient * question.tokens.text).sum(-1).clamp(min=0)[0]  # (Nt,)
    kept = (question.tokens.text_mask[0] & (inputs.word[0] >= 0)).tolist()
    columns = zip(
        kept,
        relevance.double().tolist(),
        inputs.note[0].tolist(),
        inputs.word_start[0].tolist(),
        inputs.word_end[0].tolist(),
    )
    words: dict[tuple[int, int, int], float] = {}
    for keep, score, note, start, end in columns:
        if keep:
            words[note, start, end] = words.get((note, start, end), 0.0) + score
    return tuple(
        WordScore(inputs.note_ids[0][note], start, end, score)
        for (note, start, end), score in sorted(words.items())
        if score > 0 and says_something(text[note][start:end])
    )


def says_something(word: str) -> bool:
    """False for punctuation and for function words."""
    plain = word.strip().lower()
    return any(c.isalnum() for c in plain) and plain not in STOP_WORDS
