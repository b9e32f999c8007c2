"""``trivium-model language link``, ``summary`` and ``options``: what notes say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import ConfigurationError
from model.language.command_options import (
    BUILD,
    Arguments,
    Parser,
    add_json,
    shown,
    use_threads,
)

if TYPE_CHECKING:
    from model.language.entities.tagger import Entity
    from model.language.link_score import Mentions
    from model.synthetic.case import SynthCase

#: Largest note that is read from a file, in bytes.
NOTE_LIMIT = 2**20
_NOTE_REFERENCE = "DocumentReference/note"
# Named here so that --help needs no loader; a test holds them to their source.
TOPICS = ("treatment", "diagnosis")


def add_link_options(parser: Parser) -> None:
    """Options of ``link``."""
    parser.add_argument("--cases", type=int, default=300, help="synthetic test cases")
    parser.add_argument("--seed", type=int, default=2027, help="of the cases")
    parser.add_argument(
        "--model", type=Path, help="folder of a tagger, to link what it finds too"
    )
    parser.add_argument(
        "--out", type=Path, default=BUILD / "links", help="folder of the record"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    add_json(parser)


def link_cases(arguments: Arguments) -> int:
    """Precision, recall and decoys of the links; also written to ``--out``."""
    from model.language.link_score import link_report, planted_mentions
    from model.language.report_tables import link_lines

    use_threads(arguments)
    ways: dict[str, Mentions] = {"planted passages": planted_mentions}
    if arguments.model:
        ways["entities of the tagger"] = _tagged(arguments.model)
    report = link_report(arguments.cases, arguments.seed, ways)
    _keep(arguments.out, report)
    return shown(arguments, report, link_lines(report))


def _tagged(folder: Path) -> Callable[[SynthCase], Sequence[Entity]]:
    """Mentions as the tagger finds them under the guideline of synthetic notes."""
    from model.language.corpora.annotated import Corpus
    from model.language.entities.tagger import load_tagger

    tagger = load_tagger(folder)

    def find(case: SynthCase) -> Sequence[Entity]:
        return tagger.find([case.note.text], Corpus.SYNTHETIC)[0]

    return find


def add_summary_options(parser: Parser) -> None:
    """Options of ``summary``."""
    _note(parser)
    parser.add_argument("--limit", type=int, default=3, help="most sentences")
    parser.add_argument(
        "--model", type=Path, help="folder of a tagger, to prefer asserted entities"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    add_json(parser)


def summary(arguments: Arguments) -> int:
    """Sentences of the note, in its order, with their places."""
    from fhir_adapters.resources.sections import find_sections
    from model.language.summary import summarise

    use_threads(arguments)
    text = read_note(arguments.note)
    entities: Sequence[Entity] | None = None
    if arguments.model:
        from model.language.corpora.annotated import Corpus
        from model.language.entities.tagger import load_tagger

        (entities,) = load_tagger(arguments.model).find([text], Corpus.MACCROBAT)
    chosen = summarise(
        text, sections=find_sections(text), entities=entities, limit=arguments.limit
    )
    data = [
        {
            "start": sentence.start,
            "end": sentence.end,
            "score": round(sentence.score, 4),
            "text": text[sentence.start : sentence.end],
        }
        for sentence in chosen
    ]
    lines = [f"[{each['start']}, {each['end']}) {each['text']}" for each in data]
    return shown(arguments, data, lines or ["The note holds no sentence."])


def add_summary_evaluate_options(parser: Parser) -> None:
    """Options of ``summary-evaluate``."""
    parser.add_argument("--notes", type=int, default=300, help="synthetic test notes")
    parser.add_argument("--seed", type=int, default=2027, help="of the notes")
    parser.add_argument("--limit", type=int, default=3, help="sentences a summary")
    parser.add_argument(
        "--model", type=Path, help="folder of a tagger, to prefer asserted entities"
    )
    parser.add_argument(
        "--out", type=Path, default=BUILD / "summary", help="folder of the record"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    add_json(parser)


def summary_evaluate(arguments: Arguments) -> int:
    """What summaries keep beside first and random sentences; also written."""
    from model.language.report_tables import summary_lines
    from model.language.summary_score import summary_report

    use_threads(arguments)
    report = summary_report(
        arguments.notes,
        arguments.seed,
        _tagged(arguments.model) if arguments.model else None,
        limit=arguments.limit,
    )
    _keep(arguments.out, report)
    return shown(arguments, report, summary_lines(report))


def _keep(folder: Path, report: dict[str, Any]) -> None:
    """Write the record that the report of all text figures reads."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1) + "\n"
    (folder / "evaluation.json").write_text(text, encoding="utf-8")


def add_options_options(parser: Parser) -> None:
    """Options of ``options``."""
    _note(parser)
    parser.add_argument(
        "--options", nargs="+", required=True, metavar="TEXT", help="two or more"
    )
    parser.add_argument(
        "--topic", choices=TOPICS, default="treatment", help="what the options are"
    )
    parser.add_argument("--ask", default="", help="the question; a usual one if unset")
    parser.add_argument(
        "--model", type=Path, default=BUILD / "head-qa", help="folder of a choice head"
    )
    parser.add_argument("--threads", type=int, default=1, help="0: one per core")
    add_json(parser)


def options(arguments: Arguments) -> int:
    """Sentences that passed the verifier; the last one says what they are not."""
    from fhir_adapters.resources.sections import find_sections
    from model.language.choice.scorer import load_choice
    from model.language.clinical_options import Topic, scored_options

    use_threads(arguments)
    text = read_note(arguments.note)
    found = scored_options(
        load_choice(arguments.model),
        text,
        _NOTE_REFERENCE,
        arguments.options,
        topic=Topic(arguments.topic),
        ask=arguments.ask,
        sections=find_sections(text),
    )
    data = {
        "options": [{"text": text, "share": share} for text, share in found.ranked],
        "sentences": [
            {"text": sentence.text, "evidence": list(sentence.evidence)}
            for sentence in found.sentences
        ],
        "span": found.span,
    }
    return shown(arguments, data, [sentence.text for sentence in found.sentences])


def _note(parser: Parser) -> None:
    parser.add_argument(
        "--note", type=Path, required=True, metavar="FILE", help="plain text, UTF-8"
    )


def read_note(path: Path) -> str:
    """The text of a note.

    Raises:
        ConfigurationError: no such file, larger than :data:`NOTE_LIMIT`, or no UTF-8.
    """
    try:
        if path.stat().st_size > NOTE_LIMIT:
            raise ConfigurationError(f"the note is larger than {NOTE_LIMIT} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("the note cannot be read as UTF-8 text") from error
