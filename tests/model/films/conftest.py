"""A small film folder with fictional patients, in the layout of the real one."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.films.film_model import FilmConfig, FilmModel, FilmRun
from model.films.folder import (
    KERMANY,
    MONTGOMERY,
    NIH,
    NO_FINDING,
    QUESTIONS,
    SHENZHEN,
    FilmFolder,
    read_film_folder,
)
from model.films.pretrain import FilmSettings, pretrain
from model.films.report import film_report
from model.films.training_set import film_set
from model.network.config import ImageConfig

SIDE = 64
HEADER = (
    "image patient_id split source age sex view labels Atelectasis Cardiomegaly "
    "Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema "
    "Emphysema Fibrosis Pleural_Thickening Hernia Tuberculosis Paediatric_Pneumonia "
    "No_Finding has_box has_mask width height nih_official carrier"
).split()

TINY = FilmConfig(
    image=ImageConfig(
        size=32,
        backbone="resnet10t",
        arguments=(("channels", (8, 8, 16, 16)), ("output_stride", 8)),
    ),
    width=16,
    dropout=0.0,
)
QUICK = FilmSettings(epochs=2, rate=5e-3, batch=16, average=0.95, progress=False)

Line = dict[str, str]


def split_of(number: int) -> str:
    """Two thirds train, the rest val and test."""
    return ("train", "train", "train", "test", "val", "test")[number // 2 % 6]


def draw_film(random: np.random.Generator, spot: tuple[int, int] | None) -> np.ndarray:
    """A noisy film with two darker lungs; a bright disc where the finding is."""
    film = random.normal(120, 12, (SIDE, SIDE))
    film[10:54, 6:28] -= 50
    film[10:54, 36:58] -= 50
    if spot is not None:
        down, across = np.mgrid[0:SIDE, 0:SIDE]
        film[(down - spot[0]) ** 2 + (across - spot[1]) ** 2 < 64] = 235
    return film.clip(0, 255).astype(np.uint8)


def nih_line(number: int) -> tuple[Line, tuple[int, int] | None]:
    """Every second patient shows an effusion at a random place of the left lung."""
    line = {q: "0" for q in QUESTIONS[NIH]}
    ill = number % 2 == 0
    line["Effusion" if ill else NO_FINDING] = "1"
    line["age"], line["sex"] = str(40 + number % 30), "MF"[number % 2]
    line["view"] = ("PA", "AP")[number // 2 % 2]
    line["nih_official"] = "test" if number // 2 % 5 == 0 else "train_val"
    line["carrier"] = f"example/carrier-{number % 3}"
    place = np.random.default_rng(number).integers((18, 14), (46, 50))
    return line, (int(place[0]), int(place[1])) if ill else None


def write_folder(folder: Path, nih: int = 240, others: int = 24) -> Path:
    """Write films, labels, boxes and masks."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    random, boxes = np.random.default_rng(3), []
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, HEADER, restval="")
        table.writeheader()
        for source, count in (
            (NIH, nih),
            (KERMANY, others),
            (MONTGOMERY, others),
            (SHENZHEN, others),
        ):
            for number in range(count):
                name = f"{source.split()[-1].lower()}_{number:04d}.jpg"
                spot = None
                if source == NIH:
                    line, spot = nih_line(number)
                else:
                    line = {QUESTIONS[source][0]: str(number // 12 % 2)}
                    line["carrier"] = "example/one"
                if spot is not None and number % 3 != 1:
                    boxes.append((name, f"p{source}{number}", spot))
                Image.fromarray(draw_film(random, spot)).save(folder / "images" / name)
                masked = source == MONTGOMERY
                if masked:
                    lungs = np.zeros((SIDE, SIDE), dtype=bool)
                    lungs[10:54, 6:28] = lungs[10:54, 36:58] = True
                    path = folder / "masks" / f"{Path(name).stem}.png"
                    Image.fromarray(lungs).save(path)
                table.writerow(
                    line
                    | {
                        "image": name,
                        "patient_id": f"p{source}{number}",
                        "split": split_of(number),
                        "source": source,
                        "has_mask": str(int(masked)),
                        "width": str(SIDE),
                        "height": str(SIDE),
                    }
                )
    with (folder / "boxes.csv").open("w", newline="", encoding="utf-8") as stream:
        plain = csv.writer(stream)
        plain.writerow("image patient_id split label x y w h".split())
        for name, patient, (down, across) in boxes:
            plain.writerow(
                [name, patient, "", "Effusion", across - 8, down - 8, 16, 16]
            )
    return folder


def fresh(config: FilmConfig = TINY, seed: int = 1) -> FilmModel:
    """An untrained model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FilmModel(config)


@pytest.fixture(scope="session")
def film_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder on disk."""
    return write_folder(tmp_path_factory.mktemp("films") / "films")


@pytest.fixture(scope="session")
def folder(film_path: Path) -> FilmFolder:
    """The folder, read."""
    return read_film_folder(film_path)


@pytest.fixture(scope="session")
def taught(folder: FilmFolder) -> FilmRun:
    """A model that has learnt the bright disc."""
    training, held_out = (
        film_set(folder, rows, TINY, progress=False)
        for rows in (folder.for_weights("train"), folder.select(NIH, "val"))
    )
    return pretrain(training, held_out, TINY, replace(QUICK, epochs=10, boxes=0.3))


@pytest.fixture(scope="session")
def report(taught: FilmRun, folder: FilmFolder) -> dict[str, Any]:
    """A whole report with everything in it; read only."""
    return film_report(
        folder, taught, official=taught, variants={"twice": [taught, taught]}, draws=10
    )
