"""Word pieces of a BERT folder on this disk, and whether it keeps capital letters."""

from __future__ import annotations

from pathlib import Path

from model.errors import EncoderWeightsError
from model.network.local_weights import local_path, read_json

PIECES_FILE = "vocab.txt"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def read_pieces(folder: Path | str) -> tuple[tuple[str, ...], bool]:
    """The word pieces of a folder in their order.

    Whether notes are lower-cased is what ``tokenizer_config.json`` or ``config.json``
    say (``do_lower_case``). Old folders say nothing: then a vocabulary with capital
    letters keeps them, because lower-casing would make those pieces unreachable.

    Args:
        folder: With ``vocab.txt``, one piece a line.

    Returns:
        The pieces, and True when notes are to be lower-cased.

    Raises:
        RemoteModelError: no such folder.
        EncoderWeightsError: no vocabulary, or one without the special pieces.
    """
    path = local_path(folder)
    try:
        text = (path / PIECES_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise EncoderWeightsError("vocab.txt is missing or malformed") from error
    pieces = tuple(text.removesuffix("\n").split("\n"))
    if not set(_SPECIAL) <= set(pieces) or len(set(pieces)) != len(pieces):
        raise EncoderWeightsError("vocab.txt lacks special pieces, or repeats one")
    for name in ("tokenizer_config.json", "config.json"):
        if (path / name).is_file():
            stated = read_json(path / name).get("do_lower_case")
            if isinstance(stated, bool):
                return pieces, stated
    capitals = any(p != p.lower() for p in pieces if not p.startswith("["))
    return pieces, not capitals
