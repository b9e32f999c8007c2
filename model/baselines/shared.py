"""What all methods of one seed share: the cases, their tensors, the trained encoders.

The encoders are trained once (S1) and frozen; every method reads their tokens. Their
weights are kept on disk, so that an interrupted comparison goes on where it stopped.
Cases are drawn again from their seeds, which gives the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fhir_adapters.patient_record import Modality
from model.baselines.settings import CompareSettings
from model.errors import CheckpointError
from model.inference.runtime import configure_threads
from model.inference.vocabulary import InputVocabulary
from model.network.config import preset
from model.network.fusion import Tokens, TriModalModel
from model.network.inputs import MODALITIES
from model.synthetic.case import SynthCase
from model.synthetic.ceiling import COALITIONS, posterior
from model.synthetic.latents import Split
from model.training.local_encoders import build_with
from model.training.stages import Prepared, cache_tokens, train_encoder
from model.training.synthetic_run import SyntheticRun
from model.training.synthetic_set import LABEL, synthetic_cases, synthetic_set
from model.training.train import TrainSettings, build, prepare
from model.training.training_set import TrainingSet

Floats = NDArray[np.float64]
WEIGHTS_FILE = "encoders.safetensors"
_SHARED_PREFIXES = ("image_encoder.", "text_encoder.", "values_encoder.", "pools.")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """One set of cases: as drawn, as a training set, as tensors, as encoder tokens."""

    cases: Sequence[SynthCase]
    data: TrainingSet
    prepared: Prepared
    tokens: Tokens

    @property
    def truth(self) -> Floats:
        """The label (n,) in {0, 1}."""
        return np.array([case.label for case in self.cases], dtype=np.float64)

    @cached_property
    def posteriors(self) -> dict[str, Floats]:
        """The exact posterior (n,) of each coalition on these very cases."""
        return {coalition_key(c): posterior(self.cases, c) for c in COALITIONS}


@dataclass(frozen=True)
class Shared:
    """Everything that the methods of one seed start from."""

    settings: CompareSettings
    recipe: TrainSettings
    vocabulary: InputVocabulary
    model: TriModalModel
    training: Part
    held_out: Part
    tested: Part

    def network(self, fusion: str = "catm") -> TriModalModel:
        """A network with the shared encoders and an untrained fusion of that kind."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            network = TriModalModel(replace(self.model.config, fusion=fusion))
        network.load_state_dict(encoder_weights(self.model), strict=False)
        return network


def coalition_key(coalition: frozenset[Modality]) -> str:
    """Name of a coalition in MODALITIES order: "image+text"."""
    return "+".join(m.value for m in Modality if m in coalition)


def pattern_of(key: str) -> tuple[bool, bool, bool]:
    """Presence pattern of a coalition's name."""
    members = key.split("+")
    image, text, values = (name in members for name in MODALITIES)
    return image, text, values


COALITION_KEYS = tuple(coalition_key(c) for c in COALITIONS)
FULL = COALITION_KEYS[-1]


def encoder_weights(model: TriModalModel) -> dict[str, Tensor]:
    """Encoders and pools of a model, by name."""
    return {
        name: value.detach().clone()
        for name, value in model.state_dict().items()
        if name.startswith(_SHARED_PREFIXES)
    }


def prepare_shared(
    settings: CompareSettings, seed: int, cache: Path | None = None
) -> Shared:
    """Draw the cases of a seed, and train or load its encoders.

    Args:
        settings: Sizes and recipe.
        seed: Of weights and cases; purposes have seed namespaces of their own.
        cache: Folder for the encoders' weights; None keeps nothing.

    Returns:
        Cases, tensors, tokens and encoders, all on the CPU.

    Raises:
        CheckpointError: the kept weights are damaged or of another shape.
        EncoderWeightsError, RemoteModelError: encoders from disk that do not fit.
    """
    recipe = settings.recipe(seed)
    configure_threads(recipe.threads)
    seeds = SyntheticRun().seeds(seed)
    sizes = preset(recipe.preset, vocabulary=1, codes=1, labels=(LABEL,))
    side = settings.local.image_config(sizes).size

    def draw(n: int, purpose: str, split: Split) -> list[SynthCase]:
        return synthetic_cases(
            n,
            seeds[purpose],
            split=split,
            parameters=settings.parameters,
            image_size=side,
        )

    drawn = (
        draw(settings.cases, "train", Split.TRAIN),
        draw(settings.held_out, "calibration", Split.VALIDATION),
        draw(settings.tested, "validation", Split.TEST),
    )
    sets = [synthetic_set(cases) for cases in drawn]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if settings.local:
            model, vocabulary = build_with(sets[0], recipe, settings.local)
        else:
            model, vocabulary = build(sets[0], recipe)
        prepared = [prepare(part, vocabulary, model.config, _CPU) for part in sets]
        _teach_encoders(model, sets[0], prepared[0], recipe, cache)
    model.eval()
    parts = [
        Part(cases, data, tensors, cache_tokens(model, tensors.inputs))
        for cases, data, tensors in zip(drawn, sets, prepared)
    ]
    return Shared(settings, recipe, vocabulary, model, *parts)


def _teach_encoders(
    model: TriModalModel,
    data: TrainingSet,
    prepared: Prepared,
    recipe: TrainSettings,
    cache: Path | None,
) -> None:
    """S1 for all three encoders, unless the cache has their weights."""
    kept = cache / WEIGHTS_FILE if cache else None
    if kept is not None and kept.exists():
        load_encoders(model, kept)
        return
    for m, name in enumerate(MODALITIES):
        train_encoder(
            model,
            m,
            prepared,
            data.questions(name),
            recipe.encoders[m],
            seed=recipe.seed,
            progress=recipe.progress,
        )
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(".part")
        save_file(encoder_weights(model), draft)
        draft.replace(kept)  # an interruption leaves no half file behind


def load_encoders(model: TriModalModel, path: Path) -> None:
    """Put kept encoder weights into a model.

    Raises:
        CheckpointError: not such a file, or of other shapes.
    """
    try:
        weights: Mapping[str, Tensor] = load_file(path)
        model.load_state_dict(dict(weights), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} does not fit these encoders") from error
    if set(weights) != set(encoder_weights(model)):
        raise CheckpointError(f"{path.name} does not fit these encoders")
