"""The text figures as tables: own scores, baselines, published scores and gaps.

Markdown whose columns are padded, so that a table reads in a terminal too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from model.language.masked_language import perplexity
from model.language.published import ACCURACY, ENTITY_F1, Published

Row = Sequence[str]
_LOSSES = {
    "single_pieces": "guessing by frequency, held out",
    "held_out": "model, held-out documents",
    "out_of_domain": "model, PriMock57 (another register, never trained on)",
}
_CHOICE_HEADER = (
    *("test set", "questions", "accuracy (95 %)", "macro F1", "random"),
    *("most frequent in training", "best constant", "longest option"),
    *("published", "gap"),
)


def table(header: Row, rows: Iterable[Row]) -> list[str]:
    """Lines of a Markdown table with padded columns."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[c]) for row in lines) for c in range(len(header))]
    padded = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |"
        for row in lines
    ]
    return [padded[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *padded[1:]]


def pretraining_lines(report: dict[str, Any]) -> list[str]:
    """Held-out loss of masked words beside guessing by frequency, then its curve."""
    rows = [
        (
            name,
            f"{report['final'][key]['loss']:.3f}",
            f"{perplexity(report['final'][key]['loss']):.0f}",
            _percent(report["final"][key]["accuracy"]),
        )
        for key, name in _LOSSES.items()
        if key in report["final"]
    ]
    sizes, read = report["settings"], report["history"][-1]["pieces_read"]
    told = (
        f"{sizes['layers']} layers, width {sizes['width']}, {report['vocabulary']} "
        f"pieces, {report['parameters'] / 1e6:.1f} M parameters; {report['step']} "
        f"steps, {read / 1e6:.1f} M pieces read in {report['seconds'] / 60:.0f} min."
    )
    curve = [
        (
            str(item["step"]),
            f"{item['pieces_read'] / 1e6:.2f}",
            f"{item['train_loss']:.3f}",
            f"{item['held_out_loss']:.3f}",
            _percent(item["held_out_accuracy"]),
        )
        for item in report["history"]
    ]
    measured = (
        f"The curve is measured on {sizes['held_out']} held-out sequences, the table "
        "above on all of them, always with the same hidden words."
    )
    return [
        told,
        "",
        *table(("masked words", "loss (nats)", "perplexity", "found %"), rows),
        "",
        measured,
        "",
        *table(("step", "M pieces", "train loss", "held-out loss", "found %"), curve),
    ]


def entity_lines(report: dict[str, Any]) -> list[str]:
    """Strict F1 of every corpus and type beside published figures, with the gap."""
    rows = [
        _entity_row(corpus, kind, score)
        for corpus, found in report["corpora"].items()
        for kind, score in found["scores"].items()
        # Of one type only, all types together are the same figures again.
        if kind != "all" or len(found["scores"]) != 2
    ]
    header = ("corpus", "type", "precision", "recall", "F1 (95 %)", "published", "gap")
    training = report["training"]
    told = (
        f"Split {report['split']}; trained on {', '.join(training['run']['corpora'])} "
        f"({' + '.join(training['run']['splits'])}, {training['documents']} documents, "
        f"{training['run']['epochs']} epochs, {training['seconds'] / 60:.0f} min)."
    )
    wrong = [
        (corpus, *(str(n) for n in found["errors"].values()))
        for corpus, found in report["corpora"].items()
    ]
    kinds = next(iter(report["corpora"].values()))["errors"]
    return [
        told,
        "",
        *table(header, rows),
        "",
        *table(("errors", *kinds), wrong),
    ]


def _entity_row(corpus: str, kind: str, score: dict[str, float]) -> Row:
    published = ENTITY_F1.get((corpus, kind), ())
    return (
        corpus,
        kind,
        _percent(score["precision"]),
        _percent(score["recall"]),
        _within(score["f1"], score["f1_low"], score["f1_high"]),
        _listed(published),
        _gap(score["f1"], published),
    )


def link_lines(report: dict[str, Any]) -> list[str]:
    """Precision and recall of the links, and the decoys that were linked."""
    names = {"plain": "side as on the film", "wrong_side": "note on the wrong side"}
    rows = []
    for way, found in report["mentions"].items():
        for key, name in names.items():
            counts = found[key]
            decoys, refused = counts["decoys_linked"], counts["refused"]
            rows.append(
                (
                    f"{way}, {name}",
                    f"{_percent(counts['precision'])} "
                    f"({counts['right']} of {counts['links']})",
                    f"{_percent(counts['recall'])} "
                    f"({counts['recovered']} of {counts['planted']})",
                    str(decoys["negated"]),
                    str(decoys["family"]),
                    str(decoys["wrong_side"]),
                    ", ".join(f"{why} {n}" for why, n in refused.items() if n),
                )
            )
    header = (
        *("mentions", "precision", "recall", "denied linked", "relatives linked"),
        *("other side linked", "refused"),
    )
    told = f"{report['cases']} synthetic test cases, seed {report['seed']}."
    return [told, "", *table(header, rows)]


def summary_lines(report: dict[str, Any]) -> list[str]:
    """What summaries keep beside the first and beside random sentences."""
    rows = [
        (way, _percent(share), _percent(report["length"][way]))
        for way, share in report["kept"].items()
    ]
    told = (
        f"{report['notes']} synthetic test notes, seed {report['seed']}, "
        f"{report['limit']} sentences each, {report['passages']} asserted passages."
    )
    header = ("way", "passages kept %", "share of the note's characters %")
    return [told, "", *table(header, rows)]


def choice_lines(report: dict[str, Any]) -> list[str]:
    """Accuracy of every test set beside baselines and published figures."""
    rows = [_choice_row(name, found) for name, found in report["sets"].items()]
    training = report["training"]
    told = (
        f"Trained on {training['run']['name']} ({training['questions']} questions, "
        f"{training['run']['epochs']} epochs, {training['seconds'] / 60:.0f} min)."
    )
    # Best constant is left out: it is chosen on the test set itself.
    blind = [
        name
        for name, found in report["sets"].items()
        if found["low"]
        <= max(v for k, v in found["baselines"].items() if k != "best_constant")
    ]
    verdict = f"Not shown to be above what needs no reading: {', '.join(blind)}."
    return [told, "", *table(_CHOICE_HEADER, rows), *(["", verdict] if blind else [])]


def _choice_row(name: str, found: dict[str, Any]) -> Row:
    simple, published = found["baselines"], ACCURACY.get(name, ())
    frequent = simple.get("most_frequent_in_training")
    return (
        name,
        f"{found['questions']} ({found['left_out']} left out)",
        _within(found["accuracy"], found["low"], found["high"]),
        _percent(found["macro_f1"]),
        _percent(simple["random"]),
        _percent(frequent) if frequent is not None else "-",
        _percent(simple["best_constant"]),
        _percent(simple["longest"]),
        _listed(published),
        _gap(found["accuracy"], published),
    )


def source_lines() -> list[str]:
    """Where each published figure comes from, and which are from memory."""
    figures = [*ENTITY_F1.values(), *ACCURACY.values()]
    return [
        f"- {figure.system}, {_percent(figure.value)}: {figure.source}"
        + ("" if figure.checked else " (from memory, to be checked)")
        for figure in dict.fromkeys(f for group in figures for f in group)
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _within(figure: float, low: float, high: float) -> str:
    return f"{_percent(figure)} ({_percent(low)} to {_percent(high)})"


def _listed(published: Sequence[Published]) -> str:
    return "; ".join(figure.marked for figure in published) or "-"


def _gap(own: float, published: Sequence[Published]) -> str:
    return f"{100 * (own - published[0].value):+.1f}" if published else "-"
