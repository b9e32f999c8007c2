"""The ``small`` checkpoint: an encoder of real films, an encoder of real language.

Its fusion learns on the training part of ``film-trimodal`` and on drawn cases, because
it also serves a sandbox whose films are drawn. It is calibrated on other patients and
other cases of both sorts, and scored on the test part of each, apart.

Weights are rounded to float16 *before* the calibration: what was fitted is what is
read back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.errors import ConfigurationError
from model.films.case_sets import (
    CaseSet,
    drawn_set,
    joined_set,
    poorer_copies,
    together,
)
from model.films.case_tokens import case_tokens, film_tokens, without_films
from model.films.film_model import FilmRun
from model.films.film_trimodal import FULL
from model.films.folder import RENDERED, SHIPPABLE, FilmFolder
from model.films.joint_training import JointSettings, network, teach
from model.films.small_card import NAME, TRAINED_ON, VERSION, notice, small_card
from model.films.small_figures import FigureSizes, small_figures
from model.inference.calibration import Calibration
from model.inference.photometry import fit_film_reference
from model.inference.vocabulary import InputVocabulary
from model.inference.weights import Description, LabelSpec, save_checkpoint
from model.jobs.prediction import Validation
from model.network.fusion import TriModalModel
from model.synthetic.latents import Severity, Split
from model.training.calibrate import Charts, HeldOut, calibrate
from model.training.optimise import Schedule
from model.training.synthetic_set import DISPLAY, LABEL

METHOD = (
    "test patients of film-trimodal: real NIH films joined to synthetic notes and "
    "values, all three present"
)


@dataclass(frozen=True, slots=True)
class SmallSettings:
    """Sizes of the build; seeds of drawn cases follow ``joint.seed``.

    ``copies`` and ``held_copies`` are cases per film, ``drawn``, ``held_drawn`` and
    ``tested_drawn`` cases of the generator, ``sparse`` the full and the cut-down charts
    on which the limits on foreign charts are fitted.
    """

    joint: JointSettings = JointSettings(
        pooled=Schedule(epochs=14, rate=2e-3, batch=256, average=0.98)
    ).for_bert()
    copies: int = 2
    drawn: int = 1200
    held_copies: int = 1
    held_drawn: int = 300
    tested_drawn: int = 400
    sparse: int = 1500
    draws: int = 1000

    def seeds(self) -> dict[str, int]:
        """First seed of the drawn cases of each purpose."""
        seed = self.joint.seed
        return {"train": seed, "calibration": seed + 10, "validation": seed + 20}

    def figure_sizes(self) -> FigureSizes:
        """On what the model is scored."""
        return FigureSizes(
            self.joint.seed,
            self.tested_drawn,
            self.seeds()["validation"],
            self.draws,
            self.joint.progress,
        )


@dataclass(frozen=True)
class SmallBuild:
    """A calibrated model and what it measured."""

    model: TriModalModel
    vocabulary: InputVocabulary
    calibration: Calibration
    threshold: float
    record: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> str:
        """Write the checkpoint with card and notice; returns the model's digest."""
        found = self.record["film_trimodal"]["coalitions"][FULL]["auroc"]
        validation = Validation(
            "AUROC",
            round(found["value"], 4),
            round(found["low"], 4),
            round(found["high"], 4),
            n=self.record["film_trimodal"]["test_patients"],
            method=METHOD,
        )
        return save_checkpoint(
            folder,
            self.model,
            self.vocabulary,
            self.calibration,
            Description(
                name=NAME,
                version=VERSION,
                preset="small",
                trained_on=TRAINED_ON,
                labels=(LabelSpec(LABEL, DISPLAY, self.threshold),),
                validation=validation,
                training=self.record,
                card=small_card(self.record, self.threshold),
                notice=notice(),
                half=True,
            ),
        )


def build_small(
    folder: FilmFolder, run: FilmRun, bert: Path, settings: SmallSettings
) -> SmallBuild:
    """Train, calibrate and measure.

    Args:
        folder: The films, with their patients' splits.
        run: The encoder of real films.
        bert: Folder of the encoder of real language.
        settings: Sizes and schedules.

    Raises:
        ConfigurationError: the encoder has seen films whose terms do not allow shipped
            weights, or the folder holds no eligible films.
        EncoderWeightsError: the BERT folder cannot be used.
        RemoteModelError: there is no BERT folder.
    """
    refuse_research_only(run)
    start, joint = time.monotonic(), settings.joint
    torch.set_num_threads(max(1, joint.threads))
    training, held_out = _sets(folder, run, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(joint.seed)
        model, vocabulary = network(run, training, bert)
        figures = teach(model, vocabulary, training, held_out, joint)
    to_half_and_back(model)
    calibration, threshold = _calibrated(
        model, vocabulary, training, held_out, settings
    )
    record = {
        "preset": "small",
        "data": _counts(training, held_out),
        "seeds": settings.seeds(),
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in model.parameters()),
        "figures": figures,
        "encoder": {
            "sources": list(run.model.config.sources),
            "validation_auroc": run.record.get("validation_auroc"),
        },
        **small_figures(
            folder, (model, vocabulary, calibration), settings.figure_sizes()
        ),
        "unstaged": None,
        "seconds": round(time.monotonic() - start, 1),
    }
    return SmallBuild(model, vocabulary, calibration, threshold, record)


def _sets(
    folder: FilmFolder, run: FilmRun, settings: SmallSettings
) -> tuple[CaseSet, CaseSet]:
    """Training and held-out cases, joined ones first in each."""
    grid, seeds = run.model.encoder.grid, settings.seeds()
    made = []
    for split, space, copies, drawn, seed in (
        ("train", Split.TRAIN, settings.copies, settings.drawn, seeds["train"]),
        (
            "val",
            Split.VALIDATION,
            settings.held_copies,
            settings.held_drawn,
            seeds["calibration"],
        ),
    ):
        joined = joined_set(
            folder,
            split,
            size=run.model.config.image.size,
            grid=grid,
            copies=copies,
            seed=settings.joint.seed,
        )
        made.append(together(joined, drawn_set(drawn, seed, space, grid)))
    return made[0], made[1]


def _counts(training: CaseSet, held_out: CaseSet) -> dict[str, Any]:
    """How many cases and films of which sort."""
    sets = {"train": training, "val": held_out}
    return {
        "source": "film-trimodal and drawn cases",
        "films": {k: len(np.unique(s.film[s.real])) for k, s in sets.items()},
        "joined": {k: int(s.real.sum()) for k, s in sets.items()},
        "drawn": {k: int((~s.real).sum()) for k, s in sets.items()},
    }


def refuse_research_only(run: FilmRun) -> None:
    """Films under a research release must not be in weights that are shipped.

    Raises:
        ConfigurationError: the encoder has a head for such films, or says that it saw
            them.
    """
    allowed = (*SHIPPABLE, RENDERED)
    strange = [s for s in run.model.config.sources if s not in allowed]
    if strange or run.model.config.research_only:
        raise ConfigurationError(
            "the encoder has seen films that must not be in shipped weights"
        )


@torch.no_grad()
def to_half_and_back(model: TriModalModel) -> None:
    """Round every weight to what float16 can hold.

    Raises:
        ConfigurationError: a weight is beyond the range of float16.
    """
    for x in (*model.parameters(), *model.buffers()):
        if x.is_floating_point():
            x.copy_(x.to(torch.float16).to(x.dtype))
            if not bool(torch.isfinite(x).all()):
                raise ConfigurationError("a weight does not fit into float16")


def _calibrated(
    model: TriModalModel,
    vocabulary: InputVocabulary,
    training: CaseSet,
    held_out: CaseSet,
    settings: SmallSettings,
) -> tuple[Calibration, float]:
    """S5 on held-out cases; both sets also in sparser copies."""
    seed, joint = settings.joint.seed, settings.joint
    full, sparse, whole = [], [], []
    for number, part in enumerate((training, held_out)):
        # Centre and spread of the training charts need no more than bfloat16 tells.
        show, half = joint.progress, joint.bfloat16 and part is training
        random = np.random.default_rng((seed, number))
        if part is training:
            part = part.subset(
                np.sort(random.permutation(len(part))[: settings.sparse])
            )
        films = film_tokens(model, part, vocabulary, progress=show, bfloat16=half)
        inputs = without_films(part.data.records, vocabulary)
        tokens = case_tokens(
            model, inputs, films, part.film, progress=show, bfloat16=half
        )
        full.append(tokens)
        rows = random.integers(len(part), size=settings.sparse)
        records = [part.data.records[row] for row in rows.tolist()]
        fewer = without_films(poorer_copies(records, seed + number), vocabulary)
        tokens = case_tokens(
            model, fewer, films, part.film[rows], progress=show, bfloat16=half
        )
        sparse.append(tokens)
        whole.append(inputs)
    targets, known = held_out.data.target_tensors()
    severity = np.array([c.latents.seen_severity[0] for c in held_out.cases])
    plain = np.where(held_out.real, held_out.shows == 0, severity == Severity.LOW)
    data = HeldOut(full[1], whole[1].present, targets, known, torch.from_numpy(plain))
    calibration, thresholds = calibrate(
        model, Charts(full[0], sparse[0]), data, sparse[1]
    )
    one = training.one_of_each_film().tolist()
    usual = fit_film_reference(
        image for i in one for image in training.data.records[i].images
    )
    return replace(calibration, films=usual), thresholds[0]
