"""A network whose encoders come from this disk: an image checkpoint, a BERT folder.

Everything but the encoders is that of a preset; both are then trained on like the
preset's own. Nothing is downloaded: see :mod:`model.network.local_weights`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from model.errors import ConfigurationError
from model.inference.local_pieces import read_pieces
from model.inference.vocabulary import InputVocabulary
from model.network.config import ImageConfig, TriModalConfig, preset
from model.network.fusion import TriModalModel
from model.network.local_weights import (
    load_image_weights,
    load_text_weights,
    read_text_config,
)
from model.training.train_settings import TrainSettings
from model.training.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class LocalEncoders:
    """Which encoders replace the preset's own.

    ``image`` names a timm architecture (empty: the preset's), ``arguments`` go to its
    constructor, ``image_weights`` is a safetensors file or folder (empty: random), and
    ``image_size`` the side of its films in pixels (0: the preset's). ``text`` is a
    BERT, ClinicalBERT or MegatronBERT folder with its vocabulary (empty: the preset's).

    Raises:
        ConfigurationError: weights without the name of their architecture.
    """

    image: str = ""
    image_weights: str = ""
    image_size: int = 0
    arguments: tuple[tuple[str, Any], ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        if self.image_weights and not self.image:
            raise ConfigurationError("image weights need the name of their backbone")

    def __bool__(self) -> bool:
        """Whether anything differs from the preset."""
        return bool(self.image or self.text or self.image_size)

    def image_config(self, sizes: TriModalConfig) -> ImageConfig:
        """The image encoder's sizes, ``sizes`` being the preset's."""
        side = self.image_size or sizes.image.size
        if not self.image:
            return replace(sizes.image, size=side)
        return ImageConfig(side, backbone=self.image, arguments=self.arguments)


def build_with(
    training: TrainingSet, settings: TrainSettings, local: LocalEncoders
) -> tuple[TriModalModel, InputVocabulary]:
    """S0 with encoders from this disk.

    Args:
        training: What vocabulary and statistics are fitted on.
        settings: Preset and fusion.
        local: Which encoders are not the preset's.

    Raises:
        ConfigurationError: no such backbone, or one that cannot be built.
        RemoteModelError: a name that is nothing on this disk.
        EncoderWeightsError: weights or a vocabulary that do not fit.
    """
    sizes = preset(settings.preset, vocabulary=1, codes=1, labels=training.labels)
    image = local.image_config(sizes)
    vocabulary = InputVocabulary.fit(
        training.records,
        image_size=image.size,
        max_tokens=sizes.text.max_tokens,
        pieces=settings.pieces,
        bins=sizes.values.bins,
        views=image.views,
        windows=sizes.text.windows,
    )
    text = replace(sizes.text, vocabulary=len(vocabulary.pieces))
    if local.text:
        longest, windows = sizes.text.max_tokens, sizes.text.windows
        text = read_text_config(local.text, max_tokens=longest, windows=windows)
        pieces, lowercase = read_pieces(local.text)
        if len(pieces) > text.vocabulary:
            raise ConfigurationError("vocab.txt has more pieces than config.json says")
        vocabulary = replace(
            vocabulary, pieces=pieces, lowercase=lowercase, max_tokens=text.max_tokens
        )
    config = replace(
        sizes,
        image=image,
        text=text,
        values=replace(sizes.values, codes=len(vocabulary.codes)),
        fusion=settings.fusion_module,
    )
    model = TriModalModel(config)
    if local.image_weights:
        load_image_weights(model.image_encoder, local.image_weights)
    if local.text:
        load_text_weights(model.text_encoder, local.text)
    return model, vocabulary
