"""``film-trimodal``: is fusion worth anything when the pixels are real?

Notes and values are synthetic, films are real (:mod:`model.films.joined_cases` says
how they are joined). The image encoder is the one that was taught findings; it is
frozen, as are the two encoders that are taught here, and the fusion module is trained
on cached tokens (:mod:`model.films.joint_training`). Every coalition of modalities is
scored with the same model on the test patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import ConfigurationError
from model.evaluation.resampling import DRAWS, bootstrap, paired_bootstrap
from model.evaluation.scores import accuracy, auprc, auroc, f1, precision, recall
from model.films.case_sets import CaseSet, of_joined
from model.films.case_tokens import case_tokens, film_tokens, without_films
from model.films.film_model import FilmRun
from model.films.folder import FilmFolder
from model.films.joined_cases import JoinedCases, attainable, joined_cases
from model.films.joint_training import JointSettings, network, teach
from model.films.scoring import chance_of, plain
from model.inference.vocabulary import InputVocabulary
from model.network.fusion import TriModalModel
from model.training.stages import pick

#: Coalitions by the letters of their modalities.
COALITIONS: Mapping[str, tuple[bool, bool, bool]] = {
    "I": (True, False, False),
    "T": (False, True, False),
    "V": (False, False, True),
    "I+T": (True, True, False),
    "I+V": (True, False, True),
    "T+V": (False, True, True),
    "I+T+V": (True, True, True),
}
PAIRS = ("I+T", "I+V", "T+V")
FULL = "I+T+V"
_BATCH = 128

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TrimodalSettings:
    """One run: ``copies`` cases per training film, one per validation and test film.

    ``bert`` is a folder of a text encoder; None teaches a small one from scratch.
    """

    joint: JointSettings = JointSettings()
    copies: int = 2
    bert: Path | None = None
    draws: int = DRAWS


def film_trimodal(
    folder: FilmFolder, run: FilmRun, settings: TrimodalSettings
) -> dict[str, Any]:
    """Train the fusion on real films and score every coalition; plain JSON.

    Args:
        folder: The films, with their patients' splits.
        run: The encoder.
        settings: Schedules and seed.

    Returns:
        Figures per coalition with intervals over patients, fusion minus each other
        coalition on the same cases (paired), the attainable values, and ``holds``:
        fusion is not below the best pair.

    Raises:
        ConfigurationError: a split has no film that shows, or does not show, anything.
    """
    joint = settings.joint
    torch.set_num_threads(max(1, joint.threads))
    joined = joined_splits(folder, run, settings.copies, joint.seed)
    grid = run.model.encoder.grid
    sets = {split: of_joined(part, grid) for split, part in joined.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(joint.seed)
        model, vocabulary = network(run, sets["train"], settings.bert)
        figures = teach(model, vocabulary, sets["train"], sets["val"], joint)
    logits = coalition_logits(model, sets["test"], vocabulary, joint.progress)
    chances = {
        name: np.asarray(chance_of(found), dtype=np.float64)
        for name, found in logits.items()
    }
    used = asdict(settings) | {"bert": settings.bert is not None}
    return {
        "settings": used,
        "cases": {split: len(part) for split, part in sets.items()},
        **coalition_report(joined["test"], chances, settings.draws),
        "figures": figures,
    }


def joined_splits(
    folder: FilmFolder, run: FilmRun, copies: int, seed: int
) -> dict[str, JoinedCases]:
    """The cases of all three splits.

    Args:
        folder: The films.
        run: Says at what size films are read.
        copies: Cases per training film; the other splits have one.
        seed: Zero or positive.

    Raises:
        ConfigurationError: a split has no eligible film.
    """
    size = run.model.config.image.size
    found = {
        split: joined_cases(folder, split, size=size, copies=count, seed=seed)
        for split, count in (("train", copies), ("val", 1), ("test", 1))
    }
    if not all(len(part) for part in found.values()):
        raise ConfigurationError("no films that show, or do not show, anything")
    return found


@torch.no_grad()
def coalition_logits(
    model: TriModalModel,
    cases: CaseSet,
    vocabulary: InputVocabulary,
    progress: bool = False,
) -> dict[str, Column]:
    """Logits (n,) of the first label for every coalition of modalities."""
    model.eval()
    inputs = without_films(cases.data.records, vocabulary)
    films = film_tokens(model, cases, vocabulary, progress=progress)
    tokens = case_tokens(model, inputs, films, cases.film, progress=progress)
    found: dict[str, Column] = {}
    for name, pattern in COALITIONS.items():
        parts: list[Tensor] = []
        for start in range(0, len(cases), _BATCH):
            rows = torch.arange(start, min(start + _BATCH, len(cases)))
            present = inputs.present[rows] & torch.tensor(pattern)  # (b, 3)
            parts.append(model.fuse(pick(tokens, rows), present).logits[:, 0])
        found[name] = torch.cat(parts).double().numpy()
    return found


def coalition_report(
    tested: JoinedCases, chances: Mapping[str, Column], draws: int = DRAWS
) -> dict[str, Any]:
    """Figures of every coalition on the same test cases; plain JSON.

    Args:
        tested: The cases.
        chances: (n,) probability of the label by coalition.
        draws: Resamples of patients.
    """
    truth = np.array([case.label for case in tested.cases], dtype=np.float64)
    people = tested.patients
    rows = {
        name: {
            "auroc": bootstrap(auroc, chance, truth, people, draws).to_json(),
            **{
                score.__name__: plain(score(chance, truth))
                for score in (auprc, accuracy, precision, recall, f1)
            },
        }
        for name, chance in chances.items()
    }
    ahead = {
        name: paired_bootstrap(auroc, chances[FULL], chance, truth, people, draws)
        for name, chance in chances.items()
        if name != FULL
    }
    best = min(PAIRS, key=lambda name: ahead[name].value)
    half = np.full(len(truth), 0.5)
    return {
        "prevalence": float(truth.mean()),
        "test_patients": len(np.unique(people)),
        "coalitions": rows,
        "fusion_minus": {name: found.to_json() for name, found in ahead.items()},
        "best_pair": best,
        "holds": bool(ahead[best].value >= 0.0),
        "attainable": {
            "film read without error": auroc(attainable(tested), truth),
            "film not looked at": auroc(attainable(tested, half), truth),
        },
    }
