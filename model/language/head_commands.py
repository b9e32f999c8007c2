"""``trivium-model language ner-*`` and ``choice-*``: train and score the two heads."""

from __future__ import annotations

from pathlib import Path

from model.language.command_options import (
    BUILD,
    Arguments,
    Parser,
    add_bert,
    add_data,
    add_running,
    shown,
    use_threads,
)

# Named here so that --help needs no loader; a test holds each to its source.
CORPORA = ("maccrobat2020", "bc5cdr", "ncbi-disease", "synthetic")
TRAINED_SETS = ("head-qa", "pubmedqa", "medqa")
SETS = (*TRAINED_SETS, "mmlu")


def add_ner_train_options(parser: Parser) -> None:
    """Options of ``ner-train``."""
    add_data(parser)
    add_bert(parser)
    parser.add_argument(
        "--out", type=Path, default=BUILD / "entities", help="new folder"
    )
    parser.add_argument(
        "--corpora",
        nargs="+",
        choices=CORPORA,
        default=["bc5cdr", "ncbi-disease", "maccrobat2020"],
        help="trained on together; a corpus counts for the types that it labels",
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=("train", "dev"),
        default=["train"],
        help="of the real corpora",
    )
    parser.add_argument(
        "--synthetic", type=int, default=500, help="synthetic notes, where chosen"
    )
    parser.add_argument("--epochs", type=int, default=3, help="of training")
    parser.add_argument("--rate", type=float, default=1e-3, help="of the head")
    add_running(parser)


def ner_train(arguments: Arguments) -> int:
    """Fine-tune the entity tagger; prints where it is."""
    from model.language.entities.runs import NerRun, train_entities

    use_threads(arguments)
    record = train_entities(
        arguments.bert,
        arguments.data,
        arguments.out,
        NerRun(
            corpora=tuple(arguments.corpora),
            splits=tuple(arguments.splits),
            synthetic=arguments.synthetic,
            epochs=arguments.epochs,
            rate=arguments.rate,
            seed=arguments.seed,
        ),
        progress=not arguments.quiet,
    )
    told = f"{arguments.out}: {record['documents']} documents, {record['seconds']} s"
    return shown(arguments, record, [told])


def add_ner_evaluate_options(parser: Parser) -> None:
    """Options of ``ner-evaluate``."""
    add_data(parser)
    parser.add_argument(
        "--model", type=Path, default=BUILD / "entities", help="folder of a tagger"
    )
    parser.add_argument(
        "--split", choices=("dev", "test"), default="test", help="to score"
    )
    add_running(parser)


def ner_evaluate(arguments: Arguments) -> int:
    """Entity F1 on each corpus; prints it beside published figures."""
    from model.language.entities.runs import evaluate_entities
    from model.language.report_tables import entity_lines

    use_threads(arguments)
    report = evaluate_entities(arguments.model, arguments.data, arguments.split)
    return shown(arguments, report, entity_lines(report))


def add_choice_train_options(parser: Parser) -> None:
    """Options of ``choice-train``."""
    add_data(parser)
    add_bert(parser)
    parser.add_argument("--out", type=Path, help="folder; build/language/SET if unset")
    parser.add_argument(
        "--set", choices=TRAINED_SETS, default="head-qa", help="to train on"
    )
    parser.add_argument("--epochs", type=int, default=2, help="of training")
    parser.add_argument("--rate", type=float, default=5e-4, help="of the head")
    parser.add_argument("--longest", type=int, default=96, help="pieces an option")
    parser.add_argument(
        "--limit", type=int, default=0, help="most questions to learn from, 0: all"
    )
    parser.add_argument(
        "--layout", choices=("five", "four"), default="five", help="of MedQA"
    )
    add_running(parser)


def choice_train(arguments: Arguments) -> int:
    """Fine-tune the choice head; prints where it is."""
    from model.language.choice.runs import ChoiceRun, train_choices

    use_threads(arguments)
    out = arguments.out or BUILD / arguments.set
    record = train_choices(
        arguments.bert,
        arguments.data,
        out,
        ChoiceRun(
            name=arguments.set,
            epochs=arguments.epochs,
            rate=arguments.rate,
            longest=arguments.longest,
            layout=arguments.layout,
            limit=arguments.limit,
            seed=arguments.seed,
        ),
        progress=not arguments.quiet,
    )
    told = f"{out}: {record['questions']} questions, {record['seconds']} s"
    return shown(arguments, record, [told])


def add_choice_evaluate_options(parser: Parser) -> None:
    """Options of ``choice-evaluate``."""
    add_data(parser)
    parser.add_argument(
        "--model", type=Path, default=BUILD / "head-qa", help="folder of a choice head"
    )
    parser.add_argument(
        "--sets", nargs="+", choices=SETS, default=["head-qa", "mmlu"], help="test sets"
    )
    add_running(parser)


def choice_evaluate(arguments: Arguments) -> int:
    """Accuracy on test questions; prints it beside baselines and published figures."""
    from model.language.choice.runs import evaluate_choices
    from model.language.report_tables import choice_lines

    use_threads(arguments)
    report = evaluate_choices(arguments.model, arguments.data, arguments.sets)
    return shown(arguments, report, choice_lines(report))
