"""What turns evidence into numbers, fitted once on training records and then frozen.

Word pieces, robust statistics of every measurement code, and the sizes that tensors
have. It travels with the weights (``vocab.txt`` and ``values.json``), because a model
is only the model together with the way its inputs are read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from fhir_adapters.patient_record import PatientRecord
from model.errors import CheckpointError
from model.inference.code_statistics import (
    AGE,
    SEX,
    SEX_NUMBERS,
    CodeStatistic,
    Company,
    expected_codes,
    fit_codes,
    fit_company,
    with_decimals,
)
from model.inference.familiar_text import Follows, fit_follows
from model.network.config import SENSOR_COLUMNS

__all__ = [
    "AGE",
    "SEX",
    "SEX_NUMBERS",
    "CodeStatistic",
    "InputVocabulary",
    "fit_codes",
    "fit_pieces",
]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLS, SEP = 0, 1, 2, 3
VOCABULARY_FILE = "vocab.txt"
VALUES_FILE = "values.json"
#: Version of the way from record to tensors; a checkpoint names the one it was made
#: with, and a newer one than this code knows is refused. 2: sentences unlike all
#: training notes are blanked, where the statistics for it are stored.
PIPELINE = 2


@dataclass(frozen=True)
class InputVocabulary:
    """Tokenizer, code list and tensor sizes.

    ``image_size`` is the side in pixels, ``max_tokens`` counts word pieces including
    the special ones in each of at most ``max_windows`` windows, ``max_values``
    measurements (with demographics), ``max_views`` films. ``lowercase`` is False for a
    cased vocabulary. ``expected`` are codes whose absence is a token; codes with at
    least ``sensor_count`` values in the last ``sensor_hours`` get a window token (0
    hours: none do). ``follows`` says which words follow each other in the training
    notes, ``company`` which values go together; without them every sentence is read and
    no unit is doubted.
    """

    pieces: tuple[str, ...]
    codes: tuple[CodeStatistic, ...]
    image_size: int = 64
    max_tokens: int = 128
    max_values: int = 64
    max_views: int = 1
    bins: int = 8
    max_windows: int = 1
    lowercase: bool = True
    expected: tuple[str, ...] = ()
    sensor_hours: float = 0.0
    sensor_count: int = 4
    follows: Follows = ()
    company: tuple[Company, ...] = ()
    pipeline: int = PIPELINE

    @cached_property
    def known_pairs(self) -> dict[str, frozenset[str]]:
        """Each word of the training notes, and the words that came after it."""
        return {word: frozenset(after) for word, after in self.follows}

    @property
    def columns(self) -> int:
        """Numbers per measurement, as ``ValuesConfig.columns``."""
        return self.bins + (SENSOR_COLUMNS if self.sensor_hours else 0)

    @cached_property
    def padding(self) -> int:
        """Number of [PAD]."""
        return self.pieces.index("[PAD]")

    @cached_property
    def classifier(self) -> int:
        """Number of [CLS]."""
        return self.pieces.index("[CLS]")

    @cached_property
    def separator(self) -> int:
        """Number of [SEP]."""
        return self.pieces.index("[SEP]")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Word-piece tokenizer without special tokens."""
        table = {piece: number for number, piece in enumerate(self.pieces)}
        tokenizer = Tokenizer(WordPiece(table, unk_token="[UNK]"))
        tokenizer.normalizer = BertNormalizer(lowercase=self.lowercase)
        tokenizer.pre_tokenizer = BertPreTokenizer()
        tokenizer.decoder = WordPieceDecoder()
        return tokenizer

    @cached_property
    def code_rows(self) -> dict[str, int]:
        """Row of each LOINC code in ``codes``."""
        return {code.loinc: row for row, code in enumerate(self.codes)}

    @classmethod
    def fit(
        cls,
        records: Sequence[PatientRecord],
        *,
        image_size: int,
        max_tokens: int,
        pieces: int = 2000,
        bins: int = 8,
        views: int = 1,
        windows: int = 1,
        expected_share: float | None = None,
        sensor_hours: float = 0.0,
    ) -> InputVocabulary:
        """Fit on training records only.

        Args:
            records: The training records; what is missing is left out.
            image_size: Side of the square image in pixels.
            max_tokens: Longest note in word pieces, special tokens included.
            pieces: Most word pieces kept.
            bins: Bins per measurement code.
            views: Most films of a record.
            windows: Most windows of a record's notes.
            expected_share: A code that this share of the records with values has is
                expected of every record; None expects nothing.
            sensor_hours: Length of a sensor's window, 0 for none.

        Returns:
            The same vocabulary for the same records, whatever their order.
        """
        notes = (note.text for record in records for note in record.notes)
        return cls(
            pieces=fit_pieces(notes, pieces),
            codes=fit_codes(records, bins),
            image_size=image_size,
            max_tokens=max_tokens,
            bins=bins,
            max_views=views,
            max_windows=windows,
            expected=expected_codes(records, expected_share),
            sensor_hours=sensor_hours,
        )

    def watching(self, records: Sequence[PatientRecord]) -> InputVocabulary:
        """The same vocabulary that also knows what notes and values usually look like.

        With it sentences unlike all training notes are not read, and values that look
        like another unit's are left out. Only for sets large enough that what they lack
        is rare: a set of some hundred records would call every new style foreign.

        Args:
            records: The training records.
        """
        notes = (note.text for record in records for note in record.notes)
        return replace(
            self,
            follows=fit_follows(notes),
            codes=with_decimals(self.codes, records),
            company=fit_company(self.codes, records),
            pipeline=PIPELINE,
        )

    def save(self, folder: Path) -> None:
        """Write ``vocab.txt`` and ``values.json``."""
        text = "".join(piece + "\n" for piece in self.pieces)
        (folder / VOCABULARY_FILE).write_text(text, encoding="utf-8")
        data = {
            "pipeline": self.pipeline,
            "image_size": self.image_size,
            "max_tokens": self.max_tokens,
            "max_values": self.max_values,
            "max_views": self.max_views,
            "bins": self.bins,
            "max_windows": self.max_windows,
            "lowercase": self.lowercase,
            "expected": list(self.expected),
            "sensor_hours": self.sensor_hours,
            "sensor_count": self.sensor_count,
            "codes": [asdict(code) for code in self.codes],
            "company": [asdict(pair) for pair in self.company],
            "follows": {word: " ".join(after) for word, after in self.follows},
        }
        (folder / VALUES_FILE).write_text(
            json.dumps(data, indent=1) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> InputVocabulary:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: a file is missing or malformed, or the preprocessing that
                it was made with is newer than this version's.
        """
        try:
            lines = (folder / VOCABULARY_FILE).read_text(encoding="utf-8").split("\n")
            data = json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))
            if data.setdefault("pipeline", 1) > PIPELINE:
                raise CheckpointError("made with a newer preprocessing")
            codes = tuple(_code(item) for item in data.pop("codes"))
            expected = tuple(data.pop("expected", ()))
            company = tuple(_pair(item) for item in data.pop("company", ()))
            follows = tuple(
                (word, tuple(after.split()))
                for word, after in data.pop("follows", {}).items()
            )
            return cls(
                tuple(lines[:-1]),
                codes,
                expected=expected,
                follows=follows,
                company=company,
                **data,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError("vocabulary files are malformed") from error


def _code(data: dict[str, Any]) -> CodeStatistic:
    return CodeStatistic(**{**data, "edges": tuple(data["edges"])})


def _pair(data: dict[str, Any]) -> Company:
    return Company(**{**data, "ranges": tuple(map(tuple, data["ranges"]))})


def fit_pieces(notes: Iterable[str], limit: int) -> tuple[str, ...]:
    """Word pieces for the notes: characters first, then words by falling count.

    Whole words and single characters make a complete word-piece vocabulary: any text
    over the known characters can be written. The library's own trainer numbers its
    pieces in the order of a randomly seeded hash map, so two runs on the same notes
    differ; this one depends on the counts alone.

    Args:
        notes: Texts.
        limit: Most pieces, special ones included.
    """
    normalizer, splitter = BertNormalizer(lowercase=True), BertPreTokenizer()
    words: Counter[str] = Counter()
    for note in notes:
        normal = normalizer.normalize_str(note)
        words.update(word for word, _ in splitter.pre_tokenize_str(normal))
    letters = sorted({letter for word in words for letter in word})
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    known = set(pieces)
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    for word, count in ranked:
        if len(pieces) >= limit or count < 2:
            break
        if word not in known:
            pieces.append(word)
    return tuple(pieces[:limit])
