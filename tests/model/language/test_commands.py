"""``trivium-model language``: every task runs from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.cli import main
from model.language.clinical_options import Topic
from model.language.commands import TASKS
from model.language.corpora.annotated import Corpus
from model.language.head_commands import CORPORA, SETS, TRAINED_SETS
from model.language.note_commands import NOTE_LIMIT, TOPICS
from model.language.report import CHOICES

Captured = pytest.CaptureFixture[str]
NOTE = (
    "HISTORY: A tailor of 40 hums at night. He had zorbitis as a child.\n"
    "PLAN: Rest, then lamp therapy.\n"
)


def call(capsys: Captured, *words: object) -> str:
    assert main(["language", *map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def models(
    corpora: Path, bert_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Small runs of every kind, made by the commands themselves."""
    folder = tmp_path_factory.mktemp("runs")
    data = ("--data", str(corpora), "--bert", str(bert_run), "--quiet", "--json")
    heads = ("--epochs", "1", "--out")
    main(["language", "ner-train", *data, *heads, str(folder / "entities")])
    planted = str(folder / "entities-synthetic")
    synthetic = ("--corpora", "synthetic", "--synthetic", "4", *heads, planted)
    main(["language", "ner-train", *data, *synthetic])
    sets = ("--set", "pubmedqa", "--longest", "32", *heads, str(folder / "pubmedqa"))
    main(["language", "choice-train", *data, *sets])
    return folder


def test_the_choices_of_the_options_are_those_of_the_code() -> None:
    assert CORPORA == tuple(map(str, Corpus))
    assert TRAINED_SETS == tuple(CHOICES)
    assert set(SETS) == {name for tested in CHOICES.values() for name in tested}
    assert TOPICS == tuple(map(str, Topic))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_explains_itself(task: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["language", task, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and TASKS[task][0].split()[0] in text
    assert "--json" in text


def test_a_vocabulary_and_weights_are_learnt_and_halved(
    corpora: Path, tmp_path: Path, capsys: Captured
) -> None:
    small = "--layers 1 --width 16 --heads 2 --feed-forward 32 --pieces 400 --length 32"
    small += " --max-tokens 32 --batch 4 --steps 2 --measure-every 1 --quiet"
    out = tmp_path / "bert"
    text = call(
        capsys, "pretrain", "--data", corpora, "--out", out, *small.split(), "--json"
    )
    report = json.loads(text)
    assert report["step"] == 2 and (out / "model.safetensors").is_file()
    again = main(
        ["language", "pretrain", "--data", str(corpora), "--out", str(out)]
        + small.split()
    )
    assert again == 2, "a run stands there"
    assert "resume it" in capsys.readouterr().err
    assert "MB" in call(capsys, "export", "--bert", out, "--out", tmp_path / "half")


def test_the_tagger_is_scored_beside_published_figures(
    corpora: Path, models: Path, capsys: Captured
) -> None:
    words = ("--data", corpora, "--model", models / "entities")
    text = call(capsys, "ner-evaluate", *words, "--split", "dev")
    assert "BioBERT" in text and "Split dev" in text
    report = json.loads(call(capsys, "ner-evaluate", *words, "--json"))
    assert set(report["corpora"]) == {"bc5cdr", "ncbi-disease", "maccrobat2020"}
    kept = {path.name for path in (models / "entities").glob("evaluation*.json")}
    assert kept == {"evaluation.json", "evaluation-dev.json"}


def test_the_choice_head_is_scored_beside_simple_ways(
    corpora: Path, models: Path, capsys: Captured
) -> None:
    words = ("--data", corpora, "--model", models / "pubmedqa", "--sets", "pubmedqa")
    text = call(capsys, "choice-evaluate", *words)
    assert "longest option" in text and "68.1 (BioBERT" in text


def test_links_are_scored_and_kept(
    models: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "links"
    words = ("--cases", 4, "--out", out)
    report = json.loads(call(capsys, "link", *words, "--json"))
    assert list(report["mentions"]) == ["planted passages"]
    assert json.loads((out / "evaluation.json").read_text()) == report
    text = call(capsys, "link", *words, "--model", models / "entities-synthetic")
    assert "entities of the tagger" in text


def test_a_note_is_shortened_to_its_own_sentences(
    models: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "note.txt"
    path.write_text(NOTE)
    found = json.loads(call(capsys, "summary", "--note", path, "--limit", 2, "--json"))
    assert len(found) == 2
    assert all(NOTE[s["start"] : s["end"]] == s["text"] for s in found)
    text = call(capsys, "summary", "--note", path, "--model", models / "entities")
    assert text.startswith("[") and "tailor" in text
    path.write_text("\n")
    assert "no sentence" in call(capsys, "summary", "--note", path)


def test_summaries_are_scored_and_kept(
    models: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "summary"
    words = ("--notes", 3, "--out", out)
    report = json.loads(call(capsys, "summary-evaluate", *words, "--json"))
    assert json.loads((out / "evaluation.json").read_text()) == report
    model = models / "entities-synthetic"
    text = call(capsys, "summary-evaluate", *words, "--model", model)
    assert "random sentences" in text


def test_options_are_shown_and_said_to_be_no_order(
    models: Path, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "note.txt"
    path.write_text(NOTE)
    words = ("--note", path, "--model", models / "pubmedqa", "--options", "a", "b")
    text = call(capsys, "options", *words)
    assert text.startswith("Treatment options for discussion")
    assert text.rstrip().endswith("this is no order and no recommendation.")
    data = json.loads(call(capsys, "options", *words, "--topic", "diagnosis", "--json"))
    assert {each["text"] for each in data["options"]} == {"a", "b"}
    assert all(each["evidence"] for each in data["sentences"])


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff", b"a" * (NOTE_LIMIT + 1)])
def test_a_note_that_cannot_be_read_is_refused(
    content: bytes | None, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "note.txt"
    if content is not None:
        path.write_bytes(content)
    assert main(["language", "summary", "--note", str(path)]) == 2
    assert "the note" in capsys.readouterr().err


def test_the_report_runs_what_was_not_evaluated_yet(
    corpora: Path, models: Path, tmp_path: Path, capsys: Captured
) -> None:
    page = tmp_path / "page.md"
    for path in models.rglob("evaluation*.json"):
        path.unlink()
    words = ("report", "--data", corpora, "--models", models, "--markdown", page)
    text = call(capsys, *words)
    assert text.strip() == page.read_text().strip()
    assert (models / "entities" / "evaluation.json").is_file()
    assert "Trained on pubmedqa (6 questions" in text
    report = json.loads(call(capsys, *words[:-2], "--json", "--threads", "0"))
    assert report["masked_language"] is None and report["links"] is None
