"""What turns evidence into numbers, fitted once on training records and then frozen.

Word pieces, robust statistics of every measurement code, and the sizes that tensors
have. It travels with the weights (``vocab.txt`` and ``values.json``), because a model
is only the model together with the way its inputs are read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from fhir_adapters.patient_record import PatientRecord
from model.errors import CheckpointError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNKNOWN, CLS, SEP = 0, 1, 2, 3
VOCABULARY_FILE = "vocab.txt"
VALUES_FILE = "values.json"

AGE, SEX = "30525-0", "46098-0"  # LOINC: age, sex; tokens beside measured values
SEX_NUMBERS = {"female": 0.0, "male": 1.0}
VITAL_SIGNS = frozenset(
    {
        "8867-4",  # heart rate
        "9279-1",  # respiratory rate
        "8310-5",  # body temperature
        "59408-5",  # oxygen saturation by pulse oximetry
        "2708-6",  # oxygen saturation, arterial
        "8480-6",  # systolic pressure
        "8462-4",  # diastolic pressure
        "8478-0",  # mean pressure
        "29463-7",  # body weight
        "8302-2",  # body height
        "39156-5",  # body mass index
    }
)
_MIN_COUNT = 5  # a code measured less often gets no statistic and no token


@dataclass(frozen=True, slots=True)
class CodeStatistic:
    """One measurement code: how its values spread among the training records.

    ``edges`` are the K + 1 bounds of its bins in robust z = (x - median) / iqr.
    """

    loinc: str
    kind: str
    median: float
    iqr: float
    edges: tuple[float, ...]

    def encode(self, value: float) -> NDArray[np.float32]:
        """Piecewise-linear encoding of ``value`` in the code's own unit: (K,).

        1 for every bin below the value, 0 above, the fraction inside; the outer bins
        go on to -1 and 2, so that extreme values stay apart but bounded.
        """
        edges = np.asarray(self.edges)
        z = (value - self.median) / self.iqr
        share = (z - edges[:-1]) / (edges[1:] - edges[:-1])  # (K,)
        low, high = np.zeros(len(share)), np.ones(len(share))
        low[0], high[-1] = -1.0, 2.0
        encoded: NDArray[np.float32] = np.clip(share, low, high).astype(np.float32)
        return encoded


@dataclass(frozen=True)
class InputVocabulary:
    """Tokenizer, code list and tensor sizes.

    ``image_size`` is the side in pixels, ``max_tokens`` counts word pieces including
    the special ones, ``max_values`` measurements (with demographics), ``max_views``
    films.
    """

    pieces: tuple[str, ...]
    codes: tuple[CodeStatistic, ...]
    image_size: int = 64
    max_tokens: int = 128
    max_values: int = 64
    max_views: int = 1
    bins: int = 8

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Lower-casing word-piece tokenizer without special tokens."""
        table = {piece: number for number, piece in enumerate(self.pieces)}
        tokenizer = Tokenizer(WordPiece(table, unk_token="[UNK]"))
        tokenizer.normalizer = BertNormalizer(lowercase=True)
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
    ) -> InputVocabulary:
        """Fit on training records only.

        Args:
            records: The training records; what is missing is left out.
            image_size: Side of the square image in pixels.
            max_tokens: Longest note in word pieces, special tokens included.
            pieces: Most word pieces kept.
            bins: Bins per measurement code.

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
        )

    def save(self, folder: Path) -> None:
        """Write ``vocab.txt`` and ``values.json``."""
        text = "".join(piece + "\n" for piece in self.pieces)
        (folder / VOCABULARY_FILE).write_text(text, encoding="utf-8")
        data = {
            "image_size": self.image_size,
            "max_tokens": self.max_tokens,
            "max_values": self.max_values,
            "max_views": self.max_views,
            "bins": self.bins,
            "codes": [asdict(code) for code in self.codes],
        }
        (folder / VALUES_FILE).write_text(
            json.dumps(data, indent=1) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> InputVocabulary:
        """Read what :meth:`save` wrote.

        Raises:
            CheckpointError: a file is missing or malformed.
        """
        try:
            lines = (folder / VOCABULARY_FILE).read_text(encoding="utf-8").split("\n")
            data = json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))
            codes = tuple(_code(item) for item in data.pop("codes"))
            return cls(pieces=tuple(lines[:-1]), codes=codes, **data)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError("vocabulary files are malformed") from error


def _code(data: dict[str, Any]) -> CodeStatistic:
    return CodeStatistic(**{**data, "edges": tuple(data["edges"])})


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


def fit_codes(records: Sequence[PatientRecord], bins: int) -> tuple[CodeStatistic, ...]:
    """Robust statistics of every code that was measured often enough.

    Sex and age are always in the list, because they are tokens beside measured values.
    """
    samples: dict[str, list[float]] = {AGE: [], SEX: []}
    for record in records:
        for item in record.values:
            samples.setdefault(item.loinc, []).append(float(item.value))
        age = record.patient.age_years(record.cutoff)
        if age is not None:
            samples[AGE].append(age)
    samples[SEX] = [0.0, 1.0]
    codes = []
    for loinc in sorted(samples):
        values = samples[loinc]
        if len(values) < _MIN_COUNT and loinc not in {AGE, SEX}:
            continue
        codes.append(_statistic(loinc, np.asarray(values or [0.0, 100.0]), bins))
    return tuple(codes)


def _statistic(loinc: str, values: NDArray[np.float64], bins: int) -> CodeStatistic:
    """Median, interquartile range and bin edges at even quantiles."""
    if loinc in VITAL_SIGNS:
        kind = "vital"
    else:
        kind = "demo" if loinc in {AGE, SEX} else "lab"
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    iqr = max(float(high - low), 1e-6 + 1e-3 * abs(float(median)))
    edges = np.quantile((values - median) / iqr, np.linspace(0, 1, bins + 1))
    gaps = np.maximum(np.diff(edges), 0.02)  # equal quantiles must not close a bin
    edges = np.concatenate([edges[:1], edges[0] + np.cumsum(gaps)])
    return CodeStatistic(
        loinc,
        kind,
        round(float(median), 6),
        round(iqr, 6),
        tuple(round(float(edge), 6) for edge in edges),
    )
