"""Files of a corpus: plain or compressed, from a folder or from its archive.

Every fault ends in a :class:`CorpusError` that names the file and the line, never a
passage of it: a corpus in the same format may hold patients' words.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from model.errors import CorpusError

#: No member of an archive is larger; what claims more is refused unread.
MEMBER_LIMIT = 64 * 2**20


def find_file(folder: Path, name: str) -> Path:
    """The file ``name`` in ``folder``, plain or with ``.gz`` behind it.

    Raises:
        CorpusError: neither is there.
    """
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise CorpusError(f"{name} is missing in {folder.name}")


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, plain or gzip, without byte-order mark, ``\\n`` line ends.

    Raises:
        CorpusError: not readable, not gzip although named so, or not UTF-8.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path.name} cannot be read") from error
    return _decoded(data, path.name)


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name} is not UTF-8") from error


def read_json(path: Path) -> Any:
    """JSON of a file, plain or gzip.

    Raises:
        CorpusError: not readable or not JSON.
    """
    return parse_json(read_text(path), path.name)


def parse_json(text: str, name: str) -> Any:
    """Parsed JSON.

    Raises:
        CorpusError: not JSON; the message names ``name``.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise CorpusError(f"{name} is not JSON") from error


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file with a header, resolved by name.

    Args:
        path: File, plain or gzip; quoted fields may hold line ends.
        columns: What every row must have.

    Raises:
        CorpusError: a column is missing, or a row is shorter or longer than the header.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise CorpusError(f"{path.name}: no column {', '.join(missing)}")
    rows = []
    for number, row in enumerate(reader, 1):
        if None in row or any(row[name] is None for name in columns):
            raise CorpusError(f"{path.name}: row {number} does not fit the header")
        rows.append(row)
    return rows


def parse_xml(text: str, name: str) -> ElementTree.Element:
    """Root element of a small XML document.

    Raises:
        CorpusError: not well formed, or it declares entities (expansion attack).
    """
    if "<!ENTITY" in text:
        raise CorpusError(f"{name} declares XML entities")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise CorpusError(f"{name} is not well-formed XML") from error


def members(folder: Path, archive: str, suffix: str) -> Iterator[tuple[str, str]]:
    """Name and text of the files that end in ``suffix``, in order of their names.

    Read from the archive (zip or tar.gz) where it stands in ``folder``, else from the
    folder itself: both layouts are in use.

    Raises:
        CorpusError: nothing there, damaged, oversized, or not UTF-8.
    """
    path = folder / archive
    if not path.is_file():
        found = [(str(p.relative_to(folder)), p) for p in folder.rglob(f"*{suffix}")]
        if not found:
            raise CorpusError(f"{archive} is missing in {folder.name}")
        for name, plain in sorted(found):
            yield name, read_text(plain)
        return
    try:
        if archive.endswith(".zip"):
            yield from _zip_members(path, suffix)
        else:
            yield from _tar_members(path, suffix)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise CorpusError(f"{archive} is damaged") from error
    except zipfile.BadZipFile as error:
        raise CorpusError(f"{archive} is damaged") from error


def _zip_members(path: Path, suffix: str) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(path) as archive:
        for item in sorted(archive.infolist(), key=lambda item: item.filename):
            if item.filename.endswith(suffix):
                _refuse_large(item.filename, item.file_size)
                yield item.filename, _decoded(archive.read(item), item.filename)


def _tar_members(path: Path, suffix: str) -> Iterator[tuple[str, str]]:
    with tarfile.open(path, "r:gz") as archive:
        items = [item for item in archive if item.isfile()]
        # In the order of the archive: a seek back in gzip starts from its beginning.
        texts = {}
        for item in items:
            stream = archive.extractfile(item)
            if item.name.endswith(suffix) and stream is not None:
                _refuse_large(item.name, item.size)
                texts[item.name] = _decoded(stream.read(), item.name)
    yield from sorted(texts.items())


def _refuse_large(name: str, size: int) -> None:
    if size > MEMBER_LIMIT:
        raise CorpusError(f"{name} is larger than {MEMBER_LIMIT // 2**20} MiB")
