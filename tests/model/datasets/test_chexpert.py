"""CheXpert: paths, marks, policies, patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.datasets.chexpert import (
    is_held_out,
    pixels,
    read_chexpert,
    without_leak,
)
from model.datasets.chexpert_labels import (
    LABELS,
    LabelPolicy,
    NotMentioned,
    Uncertain,
    one_policy,
    targets,
)
from model.errors import DatasetError, DatasetFileError, PatientLeakError
from tests.model.datasets.film_files import chexpert_tables, write_chexpert
from tests.model.datasets.tables import changed, write

UNCERTAIN = (-1,) * 14
BLANK = (None,) * 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chexpert(tmp_path_factory.mktemp("chexpert"))


@pytest.mark.component("A23b")
def test_both_parts_read_with_all_marks(folder: Path) -> None:
    train, valid = (list(read_chexpert(folder, part)) for part in ("train", "valid"))
    assert (len(train), len(valid)) == (20, 20)
    film = train[0]
    assert film.key == "train/patient00001/study1/view1_frontal.jpg"
    assert (film.patient, film.study, film.frontal) == ("patient00001", "study1", True)
    assert (film.view, film.sex, film.age) == ("AP", "female", None)
    assert film.marks[:5] == (1, 0, -1, None, 1) and len(film.marks) == 14
    assert train[1].view is None and not train[1].frontal and train[1].age == 4
    assert train[2].sex is None


def test_the_pixels_are_found_below_the_folder(folder: Path) -> None:
    train = list(read_chexpert(folder, "train"))
    assert pixels(folder, train[0]).shape == (12, 10)
    with pytest.raises(DatasetError, match="no readable image"):
        pixels(folder, train[1])


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0", "CheXpert-v1.0-small", ""])
def test_the_prefix_of_the_release_does_not_matter(tmp_path: Path, prefix: str) -> None:
    write(tmp_path, [table.reordered() for table in chexpert_tables(prefix)])
    keys = [film.key for film in read_chexpert(tmp_path, "train")]
    assert keys[0] == "train/patient00001/study1/view1_frontal.jpg"


@pytest.mark.component("A23b")
@pytest.mark.parametrize(
    ("uncertain", "value", "known"),
    [
        (Uncertain.ONES, 1.0, True),
        (Uncertain.ZEROS, 0.0, True),
        (Uncertain.IGNORE, 0.0, False),
        (Uncertain.MULTICLASS, 2.0, True),
        (Uncertain.SELF_TRAINED, 0.0, False),
    ],
)
def test_each_policy_says_what_uncertain_is_worth(
    uncertain: Uncertain, value: float, known: bool
) -> None:
    found = targets("film", UNCERTAIN, one_policy(uncertain))
    assert found.value.tolist() == [value] * 14
    assert found.known.tolist() == [known] * 14


def test_the_default_policy_follows_the_finding() -> None:
    found = targets("film", UNCERTAIN, LabelPolicy())
    sure = {LABELS[i] for i in np.flatnonzero(found.known)}
    assert sure == {"Atelectasis", "Edema"} and found.value.sum() == 2.0


@pytest.mark.component("A23b")
def test_a_teacher_fills_uncertain_marks_only() -> None:
    policy = one_policy(
        Uncertain.SELF_TRAINED, lambda key, label: 0.3 if label == "Edema" else None
    )
    found = targets("film", (*UNCERTAIN[:-1], 1), policy)
    assert found.known.sum() == 2 and found.value[-1] == 1.0
    assert found.value[LABELS.index("Edema")] == np.float32(0.3)


@pytest.mark.component("A23b")
def test_smoothing_is_drawn_once_and_bounded() -> None:
    policy = one_policy(Uncertain.SMOOTHED)
    first = targets("film", UNCERTAIN, policy)
    assert first.value.min() >= 0.55 and first.value.max() <= 0.85
    assert len(set(first.value.tolist())) == 14
    assert np.array_equal(first.value, targets("film", UNCERTAIN, policy).value)
    other = targets("other", UNCERTAIN, policy)
    assert not np.array_equal(first.value, other.value)


def test_silence_is_masked_unless_it_is_taken_for_denial() -> None:
    assert not targets("film", BLANK, LabelPolicy()).known.any()
    policy = LabelPolicy(not_mentioned=NotMentioned.NEGATIVE)
    found = targets("film", BLANK, policy)
    assert found.known.all() and not found.value.any()


def test_stated_marks_are_the_same_under_every_policy() -> None:
    for uncertain in Uncertain:
        found = targets("film", (1, 0) * 7, one_policy(uncertain))
        assert found.known.all() and found.value.tolist() == [1.0, 0.0] * 7


@pytest.mark.component("A23b")
def test_parts_and_held_out_share_are_by_patient(folder: Path) -> None:
    part_of: dict[str, str] = {}
    for part in ("train", "valid"):
        assert len(list(without_leak(read_chexpert(folder, part), part_of))) == 20
    assert len(part_of) == 20
    part_of["patient00001"] = "valid"
    with pytest.raises(PatientLeakError):
        list(without_leak(read_chexpert(folder, "train"), part_of))
    held = [is_held_out(f"patient{n:05d}", share=0.2) for n in range(2000)]
    assert 0.17 < sum(held) / 2000 < 0.23
    assert held != [
        is_held_out(f"patient{n:05d}", share=0.2, seed=1) for n in range(2000)
    ]


@pytest.mark.component("A23b")
@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("Path", "../../train/patient00001/study1/view1_frontal.jpg"),
        ("Path", "/train/patient00001/study1/view1_frontal.jpg"),
        ("Path", "x/../train/patient00001/study1/view1_frontal.jpg"),
        ("Path", "train/patient00001/../../../etc/view1_frontal.jpg"),
        ("Path", "train/patient00001/study1/view1_frontal.jpg\x00"),
        ("Path", "train\\patient00001\\study1\\view1_frontal.jpg"),
        ("Path", "valid/patient00001/study1/view1_frontal.jpg"),
        ("Path", "train/patient1x/study1/view1_frontal.jpg"),
        ("Path", ""),
        ("Frontal/Lateral", "Oblique"),
        ("AP/PA", "XX"),
        ("Age", "old"),
        ("Age", "40.5"),
        ("Edema", "2.0"),
        ("Edema", "-1.5"),
        ("Edema", "maybe"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, column: str, cell: str) -> None:
    tables = changed(
        chexpert_tables(), "train.csv", lambda t: t.set(3, **{column: cell})
    )
    write(tmp_path, tables)
    with pytest.raises(DatasetFileError) as caught:
        list(read_chexpert(tmp_path, "train"))
    error = caught.value
    assert (error.file, error.line, error.column) == ("train.csv", 5, column)
    assert not cell or cell not in str(error)


def test_a_missing_column_or_part_is_named(tmp_path: Path) -> None:
    write(
        tmp_path, changed(chexpert_tables(), "train.csv", lambda t: t.without("Edema"))
    )
    with pytest.raises(DatasetFileError, match="column Edema: is missing"):
        list(read_chexpert(tmp_path, "train"))
    with pytest.raises(DatasetError, match="train and valid"):
        list(read_chexpert(tmp_path, "test"))
