"""An own WordPiece vocabulary, learnt from counts alone.

Pieces are found by merging the most frequent pair of neighbours again and again
(Sennrich, Haddow and Birch, ACL 2016), written in WordPiece form (``##`` continues a
word) and applied longest match first (Wu et al., 2016). Ties are broken by the pieces
themselves: the library's own trainer numbers its pieces in the order of a randomly
seeded hash map, so two of its runs differ; two of these do not.

Lower case, accents stripped: with 3.4 million words and 8,000 pieces a cased vocabulary
spends about a fifth of itself on second spellings, notes shout in capitals at will, and
the note encoder of the fused model reads lower case. A cased BERT folder (BioBERT)
still loads: its own ``tokenizer_config.json`` says so.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from model.inference.vocabulary import SPECIAL

#: A character seen less often gets no piece; words that hold it become [UNK].
LETTER_COUNT = 20
Pair = tuple[str, str]


def count_words(texts: Iterable[str], *, lower_case: bool = True) -> Counter[str]:
    """Words and punctuation marks of the texts as BERT splits them."""
    normalizer = BertNormalizer(lowercase=lower_case)
    splitter = BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        normal = normalizer.normalize_str(text)
        words.update(word for word, _ in splitter.pre_tokenize_str(normal))
    return words


def learn_pieces(
    words: Counter[str], limit: int, *, letter_count: int = LETTER_COUNT
) -> tuple[str, ...]:
    """Learn word pieces.

    Args:
        words: Count of each word.
        limit: Most pieces, the five special ones included.
        letter_count: Least count of a character to get a piece.

    Returns:
        Special pieces, characters, then merged pieces in the order they were found;
        the same for the same counts.
    """
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
    known = sorted(letter for letter, n in letters.items() if n >= letter_count)
    pieces = [*SPECIAL, *known, *(f"##{letter}" for letter in known)]
    allowed = set(known)
    usable = {w: n for w, n in sorted(words.items()) if allowed.issuperset(w)}
    merger = _Merger(usable)
    seen = set(pieces)
    while len(pieces) < limit:
        merged = merger.merge()
        if merged is None:
            break
        if merged not in seen:
            seen.add(merged)
            pieces.append(merged)
    return tuple(pieces[:limit])


class _Merger:
    """Words as sequences of pieces, and how often each pair of neighbours stands."""

    def __init__(self, words: dict[str, int]) -> None:
        self.counts = list(words.values())
        self.spelt = [[w[0], *(f"##{c}" for c in w[1:])] for w in words]
        self.pairs: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)
        for number in range(len(self.spelt)):
            self._add(number, 1)
        self.heap = [(-n, pair) for pair, n in self.pairs.items()]
        heapq.heapify(self.heap)

    def _add(self, number: int, sign: int) -> set[Pair]:
        """Count the pairs of one word in (1) or out (-1)."""
        spelt = self.spelt[number]
        touched = set(zip(spelt, spelt[1:]))
        for pair in zip(spelt, spelt[1:]):
            self.pairs[pair] += sign * self.counts[number]
        for pair in touched:
            if sign > 0:
                self.places[pair].add(number)
            else:
                self.places[pair].discard(number)
        return touched

    def merge(self) -> str | None:
        """Join the most frequent pair everywhere; None when no pair stands twice."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if -count != self.pairs[pair]:  # an outdated entry
                continue
            if -count < 2:
                return None
            merged = pair[0] + pair[1].removeprefix("##")
            touched: set[Pair] = set()
            for number in sorted(self.places[pair]):
                touched |= self._add(number, -1)
                self.spelt[number] = _joined(self.spelt[number], pair, merged)
                touched |= self._add(number, 1)
            for other in touched:
                if self.pairs[other] > 0:
                    heapq.heappush(self.heap, (-self.pairs[other], other))
            return merged
        return None


def _joined(spelt: Sequence[str], pair: Pair, merged: str) -> list[str]:
    """The sequence with every occurrence of the pair replaced."""
    result: list[str] = []
    at = 0
    while at < len(spelt):
        if tuple(spelt[at : at + 2]) == pair:
            result.append(merged)
            at += 2
        else:
            result.append(spelt[at])
            at += 1
    return result


def tokenizer_of(pieces: Sequence[str], *, lower_case: bool = True) -> Tokenizer:
    """BERT's way to split, without special tokens; offsets point into the original."""
    table = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(table, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=lower_case)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    return tokenizer
