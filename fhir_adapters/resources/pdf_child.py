"""The process that reads one hostile PDF; :mod:`.pdf_text` starts it.

It takes the file from standard input and writes one JSON object to standard output.
Before it looks at the first byte it gives up, for good: memory beyond its limit (object
and stream bombs), CPU beyond its limit (loops in the page tree), any further file or
socket, any further process, and output beyond the text that was asked for. Whatever the
parser raises ends the process; the parent reads that as "not readable". The functions
marked "no cover" bind the process that runs them, so only real children run them.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import resource
import sys

from pypdf import PdfReader, PdfWriter

# Standard input, output and error; whatever opens next fails.
_OPEN_FILES = 3
# The encodings that a font may name (ISO 32000-1, 9.7.5.2, predefined CMaps).
_CODECS = (
    "ascii latin-1 charmap cp1252 mac_roman utf-8 utf-16 utf-16-be utf-16-le utf-32 "
    "utf-32-be unicode_escape raw_unicode_escape gbk gb2312 gb18030 big5 big5hkscs "
    "cp950 euc_jp shift_jis cp932 iso2022_jp euc_kr cp949 johab"
).split()


def main(arguments: list[str]) -> int:  # pragma: no cover
    """Read, extract, answer.

    Args:
        arguments: Memory in bytes, CPU seconds, pages, characters, bytes of the answer.
    """
    memory, seconds, pages, characters, answer = (int(item) for item in arguments)
    data = sys.stdin.buffer.read()
    _load_lazy_parts()
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime) + 1
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, spent + seconds),
        (resource.RLIMIT_FSIZE, answer),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    try:
        found = extract(data, pages, characters)
    except MemoryError:
        found = {"reason": "pdf_limit"}
    sys.stdout.buffer.write(json.dumps(found).encode("ascii"))
    sys.stdout.buffer.flush()
    return 0


def extract(data: bytes, pages: int, characters: int) -> dict[str, object]:
    """The text layer of a PDF, page after page.

    Args:
        data: The file.
        pages: Pages beyond this number are not read; ``truncated`` says so.
        characters: Text beyond this length is not kept; ``truncated`` says so.

    Returns:
        ``text`` and ``truncated``, or ``reason``: ``pdf_encrypted``.
    """
    reader = PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted:
        return {"reason": "pdf_encrypted"}
    parts: list[str] = []
    length = 0
    total = len(reader.pages)
    for place in range(min(total, pages)):
        found = reader.pages[place].extract_text()
        parts.append(found)
        length += len(found) + 1
        if length > characters:
            break
    text = "\n".join(parts)
    cut = len(text) > characters or len(parts) < total
    return {"text": text[:characters], "truncated": cut}


def _load_lazy_parts() -> None:  # pragma: no cover
    """Import now what the parser imports at first use, while files still open."""
    for name in _CODECS:
        codecs.lookup(name)
    writer = PdfWriter()
    writer.add_blank_page(72, 72)
    blank = io.BytesIO()
    writer.write(blank)
    extract(blank.getvalue(), 1, 10)


if __name__ == "__main__":  # pragma: no cover - runs in the child
    # Straight out: no interpreter shutdown, which may want files that it cannot open.
    os._exit(main(sys.argv[1:]))
