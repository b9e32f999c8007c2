"""The shipped small checkpoint: whole, small enough, honest about what taught it."""

from __future__ import annotations

import json
import re
from configparser import ConfigParser
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fhir_adapters.patient_record import ChestImage
from model.films.folder import KERMANY, MONTGOMERY, NIH, SHENZHEN, read_film_folder
from model.films.small_card import COMMAND, notice, small_card
from model.films.small_checkpoint import SmallSettings
from model.films.trimodal_report import small_page
from model.inference.predictor import Predictor
from model.inference.weights import LoadedCheckpoint, load_checkpoint, verify_manifest
from model.synthetic.emit import to_record
from model.synthetic.generate import generate
from model.synthetic.latents import Split
from tests.services import data_folder

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = REPOSITORY / "model" / "checkpoints" / "small"
MOST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def loaded() -> LoadedCheckpoint:
    return load_checkpoint(SMALL)


def test_every_file_is_listed_and_hashed() -> None:
    digest = verify_manifest(SMALL)
    assert re.fullmatch(r"[0-9a-f]{64}", digest)


def test_it_is_float16_on_disk_and_small() -> None:
    assert sum(file.stat().st_size for file in SMALL.iterdir()) <= MOST_BYTES
    stored = load_file(SMALL / "weights.safetensors")
    kinds = {x.dtype for x in stored.values() if x.is_floating_point()}
    assert kinds == {torch.float16}


def test_it_loads_in_float32_with_real_encoders(loaded: LoadedCheckpoint) -> None:
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.preset == "small"
    assert loaded.config.width == 256 and loaded.config.image.size == 192
    assert loaded.config.text.depth == 6
    assert len(loaded.vocabulary.pieces) == loaded.config.text.vocabulary == 8000
    # A word of medical texts that no synthetic note holds is one piece.
    assert "hypertension" in loaded.vocabulary.pieces
    assert set(loaded.calibration.references) == {"image", "text", "values"}
    assert loaded.calibration.films is not None


def test_card_and_notice_belong_to_these_weights(loaded: LoadedCheckpoint) -> None:
    card = (SMALL / "MODEL_CARD.md").read_text()
    assert card == small_card(loaded.training, loaded.labels[0].threshold)
    assert "Investigational" in card and COMMAND in card
    assert (SMALL / "NOTICE").read_text() == notice()
    found = loaded.training["film_trimodal"]["coalitions"]["I+T+V"]["auroc"]
    validation = loaded.identity.validation
    assert validation is not None and validation.metric == "AUROC"
    assert validation.value == pytest.approx(found["value"], abs=1e-4)
    assert "film-trimodal" in validation.method
    assert "synthetic" in loaded.identity.trained_on


def test_the_document_holds_the_figures_of_these_weights(
    loaded: LoadedCheckpoint,
) -> None:
    page = (REPOSITORY / "docs" / "film-trimodal.md").read_text()
    assert page == small_page(loaded.training)


def test_the_command_without_options_makes_this_recipe(
    loaded: LoadedCheckpoint,
) -> None:
    wanted = json.loads(json.dumps(asdict(SmallSettings())))
    found = dict(loaded.training["settings"])
    for name in ("progress", "threads"):  # these do not change a weight
        found["joint"] = {**found["joint"], name: wanted["joint"][name]}
    assert found == wanted


def test_attribution_is_what_the_terms_ask_for() -> None:
    said = (SMALL / "NOTICE").read_text()
    assert "NIH Clinical Center" in said
    assert "https://nihcc.app.box.com/v/ChestXray-NIHCC" in said
    assert "IEEE CVPR 2017, 3462-3471" in said
    assert "CC BY 4.0" in said and "10.17632/rscbjbr9sj.2" in said
    for corpus in ("MACCROBAT", "ACI-BENCH", "MTS-Dialog", "MedQuAD", "HEAD-QA"):
        assert corpus in said


def test_no_film_of_the_national_library_taught_it(loaded: LoadedCheckpoint) -> None:
    taught = loaded.training["encoder"]["sources"]
    assert set(taught) == {NIH, KERMANY, "Rendered"}
    assert not {MONTGOMERY, SHENZHEN} & set(taught)
    assert "No film of the US National Library of Medicine" in notice()


def test_the_package_ships_it() -> None:
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    patterns = config["options.package_data"]["model"].split()
    for name in ("checkpoints/small/weights.safetensors", "films/small_sources.json"):
        assert (REPOSITORY / "model" / name).is_file()
        assert any(Path(name).match(pattern) for pattern in patterns), name


def test_drawn_cases_are_assessed_and_a_negative_is_not_read() -> None:
    predictor = Predictor(SMALL, "cpu", threads=1)
    cases = list(generate(6, 41, image_size=192, split=Split.DEMO))
    records = [to_record(case) for case in cases]
    found = [predictor.predict(record) for record in records]
    assert sum(bool(p.estimates) for p in found) >= 5
    (image,) = records[0].images
    turned = _with_pixels(image, 1 - image.pixels)
    state = predictor.predict(_replace_image(records[0], turned)).states["image"]
    assert state == "unreadable: inverted_image"


def test_real_films_are_read_and_their_negatives_are_not(
    loaded: LoadedCheckpoint,
) -> None:
    folder = read_film_folder(data_folder("films"))
    rows = folder.select(NIH, "test")[:40]
    record = to_record(next(iter(generate(1, 41, image_size=32, split=Split.DEMO))))
    films = loaded.calibration.films
    assert films is not None
    images = [_with_pixels(record.images[0], folder.pixels(row)) for row in rows]
    problems = [films.problem(image) for image in images]
    assert problems.count("") >= 38, problems
    negatives = [films.problem(_with_pixels(i, 1 - i.pixels)) for i in images]
    assert negatives.count("inverted_image") >= 30, negatives


def _with_pixels(image: ChestImage, pixels: np.ndarray) -> ChestImage:
    return replace(image, pixels=pixels.astype(np.float32))


def _replace_image(record, image: ChestImage):
    return replace(record, images=(image,))


def test_the_record_is_plain_json_without_a_machines_paths() -> None:
    text = (SMALL / "training.json").read_text()
    json.loads(text)
    assert not re.search(r"(?<![\w.])/(work|root|tmp|home)/", text)
