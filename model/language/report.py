"""Every text figure on one page.

Figures come from the records that training and evaluation left beside the weights; an
evaluation that is missing is run, a model that is missing is said to be missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.errors import CheckpointError
from model.language.masked_language import HISTORY_FILE
from model.language.report_plot import loss_plot
from model.language.report_tables import (
    choice_lines,
    entity_lines,
    link_lines,
    pretraining_lines,
    source_lines,
    summary_lines,
)

BERT, ENTITIES, SYNTHETIC = "bert", "entities", "entities-synthetic"
LINKS, SUMMARY = "links", "summary"
#: The sets that a head is trained on, and what each head is scored on.
CHOICES = {
    "head-qa": ("head-qa", "mmlu"),
    "pubmedqa": ("pubmedqa",),
    "medqa": ("medqa", "mmlu"),
}
EVALUATION_FILE = "evaluation.json"
_MISSING = "Not run."
_FOLDER = "--data FOLDER"
_CALL = "trivium-model language"
_TITLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "masked_language": ("Masked words", (f"pretrain {_FOLDER}",)),
    "entities": (
        "Entities in abstracts and case reports",
        (f"ner-train {_FOLDER}", f"ner-evaluate {_FOLDER}"),
    ),
    "entities_synthetic": (
        "Planted passages of synthetic notes",
        (
            f"ner-train {_FOLDER} --corpora synthetic --out build/language/{SYNTHETIC}",
            f"ner-evaluate {_FOLDER} --model build/language/{SYNTHETIC}",
        ),
    ),
    "links": (
        "Links between note, values and film",
        (f"link --model build/language/{SYNTHETIC}",),
    ),
    "summary": ("Extractive summaries", ("summary-evaluate",)),
}
_INTRODUCTION = (
    f"Written by `{_CALL} report {_FOLDER} --markdown docs/text-tasks.md`; FOLDER "
    "holds `texts` and `pubmedqa`. Figures are percent unless a unit stands there. "
    "Entity figures are strict: start, end and type as annotated. Intervals are "
    "bootstrapped over documents (entities) or questions. A gap is ours minus the "
    "first published figure, in points. Our encoder is small and has read millions of "
    "words where BioBERT has read billions, so gaps are expected."
)
_LINKS_TOLD = (
    "A link joins a passage of the note to a measured value or to the lesion on the "
    "film. Truth is what the generator planted; decoys are denied findings, illnesses "
    "of relatives, and notes that name the other side than the film."
)
_SUMMARY_TOLD = (
    "A summary holds sentences of the note itself, in its order, with their places: "
    f"`{_CALL} summary --note FILE`. Scored is what it keeps of the passages that were "
    "planted to tell of the illness."
)
_DEV_TOLD = "On the dev splits, where settings were chosen, F1 of all types together"
_OPTIONS_TOLD = (
    "The same head scores treatments or diagnoses for a note: "
    f"`{_CALL} options --note FILE --options A B C`. It prints text: the options by "
    "falling score, the passage of the note that weighed most, and that this is no "
    "order. Every sentence passes the verifier of explanations; the accuracies below "
    "say how little such a score means."
)
_CHOICE_TOLD = (
    "Options are scored one by one. `most frequent in training` is the majority answer "
    "of the training set, `best constant` the best fixed place on the test set itself. "
    "MMLU has no training part: the head of HEAD-QA is scored on it."
)
_MEDQA_TOLD = (
    "The MedQA files are not part of the folder; the loader and the training are "
    "tested on files of its layout. With a licensed copy below `FOLDER/medqa`: "
    f"`{_CALL} choice-train {_FOLDER} --set medqa`."
)


def text_report(data: Path, models: Path) -> dict[str, Any]:
    """Collect, and where needed run, every evaluation.

    Args:
        data: Folder with ``texts`` and ``pubmedqa``.
        models: Folder with ``bert``, ``entities``, ``entities-synthetic``, ``links``,
            ``summary`` and one folder a question set; any of them may be missing.

    Returns:
        ``masked_language``, ``entities``, ``entities_dev``, ``entities_synthetic``,
        ``links``, ``summary`` and ``choice`` (one entry a training set); None for what
        was not run.

    Raises:
        CheckpointError: a record is damaged.
        CorpusError: a test set is missing or malformed.
    """
    from model.language.choice.runs import evaluate_choices
    from model.language.entities.runs import EVALUATION_FILES, evaluate_entities

    def entities(name: str) -> dict[str, Any] | None:
        return _found(models / name, lambda f: evaluate_entities(f, data))

    def choices(name: str) -> dict[str, Any] | None:
        return _found(models / name, lambda f: evaluate_choices(f, data, CHOICES[name]))

    return {
        "masked_language": _kept(models / BERT / HISTORY_FILE),
        "entities": entities(ENTITIES),
        "entities_dev": _kept(models / ENTITIES / EVALUATION_FILES["dev"]),
        "entities_synthetic": entities(SYNTHETIC),
        "links": _kept(models / LINKS / EVALUATION_FILE),
        "summary": _kept(models / SUMMARY / EVALUATION_FILE),
        "choice": {name: choices(name) for name in CHOICES},
    }


def _found(
    folder: Path, evaluate: Callable[[Path], dict[str, Any]]
) -> dict[str, Any] | None:
    """The evaluation that stands in the folder, else a new one; None without it."""
    if not folder.is_dir():
        return None
    return _kept(folder / EVALUATION_FILE) or evaluate(folder)


def _kept(path: Path) -> dict[str, Any] | None:
    return _read(path) if path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path.name} is malformed")
    return data


def markdown(report: dict[str, Any], picture: str = "") -> str:
    """The page of text results."""
    lines = ["# Text tasks on real text", "", _INTRODUCTION, ""]
    tables: dict[str, Callable[[dict[str, Any]], list[str]]] = {
        "masked_language": pretraining_lines,
        "entities": entity_lines,
        "entities_synthetic": entity_lines,
        "links": link_lines,
        "summary": summary_lines,
    }
    words = {"links": _LINKS_TOLD, "summary": _SUMMARY_TOLD}
    for key, (title, commands) in _TITLES.items():
        lines += [f"## {title}", "", _called(*commands), ""]
        lines += [words[key], ""] if key in words else []
        lines += [*(tables[key](report[key]) if report[key] else [_MISSING]), ""]
        if key == "entities" and report["entities_dev"]:
            lines += [_dev_line(report["entities_dev"]), ""]
        if key == "masked_language" and picture:
            lines += [f"![Held-out loss of masked words]({picture})", ""]
    lines += ["## Questions with options", "", _CHOICE_TOLD, "", _OPTIONS_TOLD, ""]
    for name, found in report["choice"].items():
        lines += [f"### Trained on {name}", ""]
        if found:
            tested = " ".join(CHOICES[name])
            model = f"--model build/language/{name}"
            train = f"choice-train {_FOLDER} --set {name}{_settings(found)}"
            test = f"choice-evaluate {_FOLDER} {model} --sets {tested}"
            lines += [_called(train, test), "", *choice_lines(found), ""]
        else:
            lines += [_MEDQA_TOLD if name == "medqa" else _MISSING, ""]
    lines += ["## Sources of the published figures", "", *source_lines()]
    return "\n".join(lines) + "\n"


def _dev_line(report: dict[str, Any]) -> str:
    found = ", ".join(
        f"{corpus} {100 * scored['scores']['all']['f1']:.1f}"
        for corpus, scored in report["corpora"].items()
    )
    return f"{_DEV_TOLD} (`{_CALL} ner-evaluate {_FOLDER} --split dev`): {found}."


def _called(*commands: str) -> str:
    return "\n".join(f"    {_CALL} {command}" for command in commands)


def _settings(found: dict[str, Any]) -> str:
    """The options that the run was called with."""
    run = found["training"]["run"]
    limit = f" --limit {run['limit']}" if run.get("limit") else ""
    return f" --epochs {run['epochs']} --longest {run['longest']}{limit}"


def write_page(report: dict[str, Any], path: Path) -> None:
    """Write the page, and the picture beside it when there is a curve."""
    picture = ""
    if report["masked_language"] is not None:
        picture = f"{path.stem}-masked-loss.svg"
        text = loss_plot(report["masked_language"])
        path.with_name(picture).write_text(text + "\n", encoding="utf-8")
    path.write_text(markdown(report, picture), encoding="utf-8")
