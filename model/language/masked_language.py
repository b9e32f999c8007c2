"""Masked-word training of a small BERT from nothing, on openly licensed text.

S1 of the text stream (Devlin et al., 2019, without next-sentence prediction). What
differs from that recipe, because the budget is an hour of one core and not weeks of
many: 25 % of the words are hidden (Geiping and Goldstein, 2022), no dropout, and a
start from counts (:mod:`model.language.first_weights`). A run stops after a number of
steps, never of minutes, so that reruns agree; an interrupted run goes on where its
last saved step was, to the same weights.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from model.errors import CheckpointError, ConfigurationError
from model.language.bert_folder import (
    masked_state,
    new_masked_model,
    read_weights,
    save_bert,
)
from model.language.corpora.pretraining import PretrainingText
from model.language.first_weights import initialise, log_frequency
from model.language.masking import Ids, continuations, mask_words, pack
from model.language.word_pieces import count_words, learn_pieces, tokenizer_of
from model.network.config import TextConfig

HISTORY_FILE = "history.json"
STATE_FILE = "state.safetensors"
_EVALUATE_BATCH = 64
_HELD_OUT_SEED = 90_210


@dataclass(frozen=True, slots=True)
class MaskedSettings:
    """Sizes and pace; ``length`` and ``batch`` give the pieces of one step.

    ``max_tokens`` places exist; half of the sequences start at place 0, the others
    anywhere, so that places beyond ``length`` are trained too.
    """

    layers: int = 6
    width: int = 256
    heads: int = 4
    feed_forward: int = 1024
    pieces: int = 8000
    max_tokens: int = 256
    length: int = 128
    batch: int = 16
    steps: int = 2000
    rate: float = 7e-4
    warmup: float = 0.06
    hidden: float = 0.25
    seed: int = 7
    measure_every: int = 100
    held_out: int = 96

    def text_config(self, vocabulary: int) -> TextConfig:
        """The network's sizes for a fitted vocabulary."""
        return TextConfig(
            vocabulary,
            self.width,
            self.layers,
            self.heads,
            self.feed_forward,
            self.max_tokens,
        )


@dataclass(slots=True)
class Run:
    """A training run in progress: weights, optimiser, what was measured."""

    model: Any
    optimiser: torch.optim.AdamW
    pieces: tuple[str, ...]
    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def pretrain(
    text: PretrainingText,
    settings: MaskedSettings,
    out: Path,
    *,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Learn a vocabulary and train; ``out`` gets a BERT folder and ``history.json``.

    Args:
        text: Training, held-out and out-of-domain documents.
        settings: Sizes and pace.
        out: Folder; a run that stands there is continued only with ``resume``.
        resume: Go on from the last saved step.
        progress: Draw a bar.

    Returns:
        What ``history.json`` holds.

    Raises:
        ConfigurationError: ``out`` holds a run and ``resume`` is not set, the settings
            differ from those of the run to resume, or the text is too short.
        CheckpointError: the run to resume is damaged.
    """
    if (out / HISTORY_FILE).is_file() and not resume:
        raise ConfigurationError(f"{out.name} holds a run: resume it or remove it")
    pieces = learn_pieces(count_words(text.train), settings.pieces)
    tokenizer = tokenizer_of(pieces)
    order = np.random.default_rng(settings.seed).permutation(len(text.train))
    train = pack((text.train[n] for n in order), tokenizer, settings.length)
    held_out = pack(text.held_out, tokenizer, settings.length)
    if not len(train) or not len(held_out):
        raise ConfigurationError("the text does not fill one sequence")
    run = _start(train, pieces, settings)
    if resume:
        _restore(run, settings, out)
    _train(run, train, held_out[: settings.held_out], settings, out, progress)
    report = _report(run, settings, text)
    report["final"] = {
        "held_out": measure(run.model, held_out, settings, pieces),
        "single_pieces": _frequency_loss(train, held_out, len(pieces)),
    }
    other = pack(text.out_of_domain, tokenizer, settings.length)
    if len(other):
        report["final"]["out_of_domain"] = measure(run.model, other, settings, pieces)
    _write(out / HISTORY_FILE, report)
    (out / STATE_FILE).unlink(missing_ok=True)
    return report


def _start(train: Ids, pieces: tuple[str, ...], settings: MaskedSettings) -> Run:
    """A fresh model and its optimiser."""
    torch.manual_seed(settings.seed)
    model = new_masked_model(settings.text_config(len(pieces)))
    initialise(model, train, settings.seed)
    plain = [p for p in model.parameters() if p.ndim < 2]
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": 0.01},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=settings.rate,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    return Run(model, optimiser, pieces)


def _train(
    run: Run,
    train: Ids,
    held_out: Ids,
    settings: MaskedSettings,
    out: Path,
    progress: bool,
) -> None:
    """Steps until the last; every ``measure_every`` measured and saved."""
    continues, summed = continuations(run.pieces), 0.0
    started = time.monotonic() - run.seconds
    with tqdm(
        total=settings.steps,
        initial=run.step,
        desc="S1 masked words",
        disable=not progress,
        mininterval=5.0,
    ) as bar:
        while run.step < settings.steps:
            summed += _step(run, train, continues, settings)
            run.step += 1
            run.seconds = time.monotonic() - started
            bar.update()
            if run.step % settings.measure_every and run.step < settings.steps:
                continue
            found = measure(run.model, held_out, settings, run.pieces)
            since = run.step - (run.history[-1]["step"] if run.history else 0)
            run.history.append(
                {
                    "step": run.step,
                    "pieces_read": run.step * settings.batch * settings.length,
                    "train_loss": summed / since,
                    "held_out_loss": found["loss"],
                    "held_out_accuracy": found["accuracy"],
                }
            )
            summed = 0.0
            bar.set_postfix(held_out=f"{found['loss']:.3f}")
            _save(run, settings, out)


def _step(run: Run, train: Ids, continues: Tensor, settings: MaskedSettings) -> float:
    """One batch; everything drawn depends on the seed and the step alone."""
    random = torch.Generator().manual_seed(settings.seed * 1_000_003 + run.step)
    rows = _rows(len(train), run.step, settings)
    ids = torch.from_numpy(train[rows]).long()  # (B, L)
    shown, hidden = mask_words(ids, continues, settings.hidden, random)
    spare = settings.max_tokens - settings.length
    shift = torch.randint(spare + 1, (len(rows), 1), generator=random)
    shift[torch.rand(len(rows), 1, generator=random) < 0.5] = 0
    for group in run.optimiser.param_groups:
        group["lr"] = settings.rate * _pace(run.step, settings)
    run.model.train()
    logits = masked_logits(run.model, shown, hidden, shift)  # (M, V)
    loss = functional.cross_entropy(logits, ids[hidden])
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimiser.step()
    return float(loss.detach())


def masked_logits(
    model: Any, shown: Tensor, hidden: Tensor, shift: Tensor | int = 0
) -> Tensor:
    """(M, V) logits at the M hidden places only: the head costs as much as a layer.

    Args:
        model: BertForMaskedLM.
        shown: (B, L) what is read.
        hidden: (B, L) where to predict.
        shift: (B, 1) place of each sequence's first piece.
    """
    places = torch.arange(shown.shape[1]) + shift  # (B, L) or (L,)
    places = places.expand(shown.shape)  # (B, L)
    states = model.bert(input_ids=shown, position_ids=places).last_hidden_state
    logits: Tensor = model.cls(states[hidden])  # (M, W) -> (M, V)
    return logits


def _rows(records: int, step: int, settings: MaskedSettings) -> Sequence[int]:
    """Rows of one step: epoch after epoch, each in an order of its own."""
    first = step * settings.batch
    rows = []
    orders: dict[int, Any] = {}
    for number in range(first, first + settings.batch):
        epoch, place = divmod(number, records)
        if epoch not in orders:
            random = np.random.default_rng((settings.seed, epoch))
            orders[epoch] = random.permutation(records)
        rows.append(int(orders[epoch][place]))
    return rows


def _pace(step: int, settings: MaskedSettings) -> float:
    """Share of the peak rate: up, then down to nothing along a straight line."""
    start = max(1, round(settings.warmup * settings.steps))
    if step < start:
        return (step + 1) / start
    return max(0.02, (settings.steps - step) / max(1, settings.steps - start))


@torch.no_grad()
def measure(
    model: Any, ids: Ids, settings: MaskedSettings, pieces: Sequence[str]
) -> dict[str, float]:
    """Loss in nats a hidden piece and share found, on the same hidden words each time.

    Returns:
        ``loss``, ``accuracy``, and ``places`` that were predicted.
    """
    model.eval()
    random = torch.Generator().manual_seed(_HELD_OUT_SEED)
    continues = continuations(pieces)
    loss = hits = places = 0.0
    for start in range(0, len(ids), _EVALUATE_BATCH):
        batch = torch.from_numpy(ids[start : start + _EVALUATE_BATCH]).long()
        shown, hidden = mask_words(batch, continues, settings.hidden, random)
        logits = masked_logits(model, shown, hidden)  # (M, V)
        truth = batch[hidden]  # (M,)
        loss += float(functional.cross_entropy(logits, truth, reduction="sum"))
        hits += float((logits.argmax(1) == truth).sum())
        places += len(truth)
    return {"loss": loss / places, "accuracy": hits / places, "places": places}


def _frequency_loss(train: Ids, held_out: Ids, vocabulary: int) -> dict[str, float]:
    """What guessing by frequency alone costs: the line any training must pass."""
    shares = log_frequency(train, vocabulary)
    truth = held_out[held_out >= 5]
    guess = int(np.argmax(shares))
    return {
        "loss": float(-shares[truth].mean()),
        "accuracy": float((truth == guess).mean()),
        "places": float(len(truth)),
    }


def _report(
    run: Run, settings: MaskedSettings, text: PretrainingText
) -> dict[str, Any]:
    return {
        "settings": asdict(settings),
        "vocabulary": len(run.pieces),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "sources": text.counts,
        "step": run.step,
        "seconds": round(run.seconds, 1),
        "history": run.history,
    }


def _save(run: Run, settings: MaskedSettings, out: Path) -> None:
    """The BERT folder, the optimiser's state and the figures so far."""
    run.model.config.architectures = ["BertForMaskedLM"]
    save_bert(out, run.model.config, masked_state(run.model), run.pieces)
    state = {}
    for number, kept in run.optimiser.state_dict()["state"].items():
        for name in ("exp_avg", "exp_avg_sq"):
            state[f"{number}.{name}"] = kept[name].contiguous()
    save_file(state, out / STATE_FILE)
    data = {
        "settings": asdict(settings),
        "step": run.step,
        "seconds": round(run.seconds, 1),
        "history": run.history,
    }
    _write(out / HISTORY_FILE, data)


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _restore(run: Run, settings: MaskedSettings, out: Path) -> None:
    """Weights, optimiser and figures of the last saved step."""
    try:
        data = json.loads((out / HISTORY_FILE).read_text(encoding="utf-8"))
        differing = [
            f.name
            for f in fields(settings)
            if data["settings"][f.name] != getattr(settings, f.name)
        ]
        step, seconds = int(data["step"]), float(data["seconds"])
        history = list(data["history"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError("the run to resume is damaged") from error
    if differing:
        raise ConfigurationError(f"the run had another {', '.join(differing)}")
    weights = read_weights(out / "model.safetensors")
    moments = read_weights(out / STATE_FILE)
    state = run.optimiser.state_dict()
    count = sum(len(group["params"]) for group in state["param_groups"])
    try:
        run.model.load_state_dict(weights, strict=False)
        state["state"] = {
            number: {
                "step": torch.tensor(float(step)),
                "exp_avg": moments[f"{number}.exp_avg"],
                "exp_avg_sq": moments[f"{number}.exp_avg_sq"],
            }
            for number in range(count)
        }
    except (RuntimeError, KeyError) as error:
        raise CheckpointError("the run to resume is damaged") from error
    run.optimiser.load_state_dict(state)
    run.step, run.seconds, run.history = step, seconds, history


def perplexity(loss: float) -> float:
    """e to the loss; infinite beyond what a float holds."""
    return math.exp(loss) if loss < 700 else math.inf
