"""The film folder: gaps stay gaps, sources stay apart, patients stay on one side."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.errors import DatasetError, PatientLeakError
from model.films.folder import (
    FOLDER_SOURCES,
    KERMANY,
    MONTGOMERY,
    NIH,
    QUESTIONS,
    SHENZHEN,
    Box,
    FilmFolder,
    FilmFolderError,
    answers,
    read_film_folder,
)
from tests.services import data_folder


def test_films_of_a_source_answer_its_own_questions_only(folder: FilmFolder) -> None:
    film = folder.select(NIH)[0]
    assert tuple(film.findings) == QUESTIONS[NIH]
    assert "Tuberculosis" not in film.findings
    table = answers((film, folder.select(KERMANY)[0]), NIH)
    assert not np.isnan(table[0]).any() and np.isnan(table[1]).all()


def test_an_empty_cell_is_a_gap_and_no_negative(
    film_path: Path, tmp_path: Path
) -> None:
    def empty(lines: list[str]) -> None:
        cells = lines[1].split(",")
        cells[lines[0].split(",").index("Hernia")] = ""
        lines[1] = ",".join(cells)

    changed = read_film_folder(mutated(film_path, tmp_path, empty))
    assert np.isnan(changed.rows[0].findings["Hernia"])


def test_splits_and_sources_select(folder: FilmFolder) -> None:
    parts = [folder.select(NIH, split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(folder.select(NIH))
    assert all(r.official == "test" for r in folder.select(NIH, official="test"))
    patients = [{row.patient for row in part} for part in parts]
    assert not patients[0] & patients[2] and not patients[0] & patients[1]
    with pytest.raises(DatasetError):
        folder.select("elsewhere")
    with pytest.raises(DatasetError):
        folder.select(NIH, "dev")
    with pytest.raises(DatasetError):
        folder.select(NIH, official="dev")


def test_research_films_teach_only_when_asked_for(folder: FilmFolder) -> None:
    assert {r.source for r in folder.for_weights("train")} == {NIH, KERMANY}
    everything = folder.for_weights("train", research_only=True)
    assert {r.source for r in everything} == {NIH, KERMANY, MONTGOMERY, SHENZHEN}


def test_pixels_and_masks_have_the_size_of_the_film(folder: FilmFolder) -> None:
    film = folder.select(MONTGOMERY)[0]
    assert folder.pixels(film).shape == folder.lung_mask(film).shape == film.size
    assert 0.3 < folder.lung_mask(film).mean() < 0.6
    with pytest.raises(DatasetError):
        folder.lung_mask(folder.select(NIH)[0])


def test_a_box_holds_its_border() -> None:
    box = Box("Mass", 10, 20, 5, 5)
    assert box.holds(10, 20) and box.holds(15, 25)
    assert not box.holds(16, 22) and not box.holds(12, 19)


def mutated(
    source: Path,
    target: Path,
    change: Callable[[list[str]], None],
    file: str = "labels.csv",
) -> Path:
    """A copy of the tables with one change; films are not needed to read them."""
    for name in ("labels.csv", "boxes.csv"):
        shutil.copy(source / name, target / name)
    lines = (target / file).read_text(encoding="utf-8").splitlines()
    change(lines)
    (target / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def put(line: int, column: str, cell: str) -> Callable[[list[str]], None]:
    """Replace one cell."""

    def change(lines: list[str]) -> None:
        cells = lines[line].split(",")
        cells[lines[0].split(",").index(column)] = cell
        lines[line] = ",".join(cells)

    return change


def rename(old: str) -> Callable[[list[str]], None]:
    """Lose one column."""

    def change(lines: list[str]) -> None:
        lines[0] = lines[0].replace(old, "something_else", 1)

    return change


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("labels.csv", rename("patient_id")),
        ("labels.csv", rename("Hernia")),
        ("labels.csv", put(2, "Mass", "-1")),
        ("labels.csv", put(2, "split", "dev")),
        ("labels.csv", put(2, "patient_id", "")),
        ("labels.csv", put(2, "source", "Elsewhere")),
        ("labels.csv", put(2, "age", "forty")),
        ("labels.csv", put(2, "width", "wide")),
        ("labels.csv", put(2, "image", "chestx-ray14_0000.jpg")),
        ("labels.csv", lambda lines: lines.append("only,three,cells")),
        ("labels.csv", lambda lines: lines.append(lines[1] + ",more")),
        ("boxes.csv", rename("label")),
        ("boxes.csv", put(1, "x", "left")),
        ("boxes.csv", put(1, "w", "0")),
        ("boxes.csv", put(1, "image", "nobody.jpg")),
    ],
)
def test_a_broken_table_is_refused(
    film_path: Path, tmp_path: Path, file: str, change: Callable[[list[str]], None]
) -> None:
    with pytest.raises(FilmFolderError) as refused:
        read_film_folder(mutated(film_path, tmp_path, change, file))
    assert refused.value.file == file
    assert "forty" not in str(refused.value) and "nobody" not in str(refused.value)


@pytest.mark.parametrize("column", ["split", "nih_official"])
def test_a_patient_in_two_splits_is_refused(
    film_path: Path, tmp_path: Path, column: str
) -> None:
    def leak(lines: list[str]) -> None:
        put(2, "patient_id", "pNIH ChestX-ray140")(lines)
        put(2, "split", "val" if column == "split" else "train")(lines)
        put(2, "nih_official", "train_val")(lines)

    with pytest.raises(PatientLeakError):
        read_film_folder(mutated(film_path, tmp_path, leak))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FilmFolderError):
        read_film_folder(tmp_path)


@pytest.mark.data("films")
def test_the_real_folder_reads_as_its_readme_says() -> None:
    real = read_film_folder(data_folder("films"))
    counts = {s: len(real.select(s, "test")) for s in FOLDER_SOURCES}
    assert counts == {NIH: 740, KERMANY: 1171, MONTGOMERY: 27, SHENZHEN: 133}
    tested = real.select(NIH, "test")
    assert np.nansum(answers(tested, NIH)[:, :3], axis=0).tolist() == [109, 76, 131]
    assert all(r.findings[b.label] == 1 for r in tested for b in r.boxes)
    assert real.pixels(tested[0]).shape == tested[0].size
    lungs = [r for r in real.select(MONTGOMERY, "test") if r.has_mask]
    assert 0.1 < real.lung_mask(lungs[0]).mean() < 0.5
