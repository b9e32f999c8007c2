"""One note's words against the planted ones, and what taking words away does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.explain.asked import Asked
from model.explain.attribution import text_path_gradient
from model.explain.perturbation import Place, note_changes, note_drops
from model.explain.phrases import NoteWord, note_words
from model.explain.scoring import average_precision, infidelity
from model.explain.tally import Tally
from model.jobs.explanation import Explanation
from model.synthetic.case import SpanKind, SynthCase

PLANTED_WORDS = (SpanKind.SEVERITY, SpanKind.SYNDROME)
GROUPS, GROUP_SHARE = 24, 0.2  # random groups of words whose removal is foretold


def measure_note(
    tally: Tally,
    case: SynthCase,
    asked: Asked,
    explanation: Explanation,
    random: np.random.Generator,
) -> None:
    """Precision of word and phrase scores, and their faithfulness to the model.

    Args:
        tally: Where the numbers go.
        case: With the spans that were planted.
        asked: The estimate.
        explanation: With words and phrases.
        random: Of random orders and groups.
    """
    text = [note.text for note in asked.record.notes]
    words = note_words(asked.question, text_path_gradient(asked.question), text)
    plain = {(w.start, w.end): w.score for w in explanation.words}
    _precision(tally, case, explanation, words, plain)
    order = sorted(
        words, key=lambda w: (-plain.get((w.start, w.end), 0.0), -w.share, w.start)
    )
    drops = note_drops(asked.question, _places(order))
    tally.add("comprehensiveness", float(np.mean(drops.without)))
    tally.add("sufficiency", float(np.mean(drops.only)))
    shuffled = [words[place] for place in random.permutation(len(words))]
    drops = note_drops(asked.question, _places(shuffled))
    tally.add("comprehensiveness_random", float(np.mean(drops.without)))
    tally.add("sufficiency_random", float(np.mean(drops.only)))
    _foretold(tally, asked, words, random)


def _precision(
    tally: Tally,
    case: SynthCase,
    explanation: Explanation,
    words: Sequence[NoteWord],
    plain: dict[tuple[int, int], float],
) -> None:
    """Area under precision and recall of planted words, by word and by phrase."""
    spans = [s for s in case.note.spans if s.kind in PLANTED_WORDS]
    telling = [word for word in words if word.says]
    truth = [any(s.start <= w.start < s.end for s in spans) for w in telling]
    by_word = [plain.get((w.start, w.end), 0.0) for w in telling]
    by_phrase = {(p.start, p.end): p.weight for p in explanation.phrases}
    phrase = [
        max((v for (a, b), v in by_phrase.items() if a <= w.start < b), default=0.0)
        + 1e-3 * w.weight  # words of one phrase in the order of their own weight
        for w in telling
    ]
    tally.add("word_precision", average_precision(truth, by_word))
    tally.add("phrase_precision", average_precision(truth, phrase))
    tally.add("planted_words", float(np.mean(truth)))


def _foretold(
    tally: Tally,
    asked: Asked,
    words: Sequence[NoteWord],
    random: np.random.Generator,
) -> None:
    """Whether the shares foretell what taking random groups of words out changes."""
    size = max(1, round(GROUP_SHARE * len(words)))
    picks = [random.choice(len(words), size, replace=False) for _ in range(GROUPS)]
    share = np.array([word.share for word in words])
    places = _places(words)
    done = note_changes(asked.question, [{places[w] for w in pick} for pick in picks])
    tally.add("word_infidelity", infidelity([share[p].sum() for p in picks], done))
    mixed = random.permutation(share)
    tally.add(
        "word_infidelity_random", infidelity([mixed[p].sum() for p in picks], done)
    )


def _places(words: Sequence[NoteWord]) -> list[Place]:
    return [(w.note, w.start, w.end) for w in words]
