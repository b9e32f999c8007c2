r"""RTF -> plain text in one pass (Rich Text Format Specification 1.9.1).

Nothing in a document is run, fetched or embedded. What this module stops:

* A bomb of nested groups: depth is capped, and nothing here is recursive.
* Quadratic readers: each character is looked at a bounded number of times.
* Words nobody sees: hidden text (``\v``), deleted revisions, headers, field
  instructions, pictures and objects are left out.

    rtf_text(rb"{\rtf1\ansi FINDINGS: clear\par}")  # "FINDINGS: clear\n"
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fhir_adapters.errors import ValueRejectedError

_TOKEN = re.compile(
    r"\\'(?P<hex>[0-9a-fA-F]{2})"
    r"|\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?[0-9]{1,10})?\ ?"
    r"|\\(?P<symbol>[^a-zA-Z])"
    r"|(?P<brace>[{}])"
    r"|[\r\n]+"
    r"|(?P<text>[^\\{}\r\n]+)",
    re.DOTALL,
)
_MAX_DEPTH = 200
_BREAKS = {
    **dict.fromkeys(("par", "line", "row", "sect", "page", "column"), "\n"),
    **dict.fromkeys(("tab", "cell", "nestcell"), "\t"),
}
_WORDS = {
    **_BREAKS,
    **{"emdash": "\u2014", "endash": "\u2013", "bullet": "\u2022"},
    **{"lquote": "\u2018", "rquote": "\u2019"},
    **{"ldblquote": "\u201c", "rdblquote": "\u201d"},
}
_SYMBOLS = {"~": " ", "_": "-", "\\": "\\", "{": "{", "}": "}", "\n": "\n", "\r": "\n"}
# Destinations whose content is not the text of the document.
_NOT_TEXT = frozenset(
    "author bkmkend bkmkstart colortbl comment company creatim datafield datastore "
    "fldinst fonttbl footer footerf footerl footerr generator header headerf headerl "
    "headerr info keywords listoverridetable listtable manager nonshppict objdata "
    "object operator pict revtbl rsidtbl stylesheet subject tc themedata title "
    "xe".split()
)
_CODE_PAGES = {
    **{number: f"cp{number}" for number in (437, 850, 852, 874, 932, 936, 949, 950)},
    **{number: f"cp{number}" for number in range(1250, 1259)},
    10000: "mac_roman",
    65001: "utf-8",
}


@dataclass(frozen=True, slots=True)
class _Group:
    """What a brace opens: ``shown`` text or not, and the fallback of ``\\u``."""

    shown: bool = True
    visible: bool = True
    fallback: int = 1


def rtf_text(raw: bytes) -> str:
    """The visible text of an RTF document.

    Raises:
        ValueRejectedError: ``attachment_corrupt``; it is no RTF, or nested beyond
            any writer's habit.
    """
    source = raw.removeprefix(b"\xef\xbb\xbf").lstrip().decode("latin-1")
    if not source.startswith("{\\rtf"):
        raise ValueRejectedError("attachment_corrupt", "no RTF")
    return _Reader(source).read()


class _Reader:
    """The state of one pass."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._parts: list[str] = []
        self._bytes = bytearray()
        self._codec = "cp1252"
        self._stack: list[_Group] = []
        self._group = _Group()
        # Characters that stand in for the last \u in readers without Unicode.
        self._pending = 0

    def read(self) -> str:
        place = 0
        while match := _TOKEN.match(self._source, place):
            place = match.end()
            kind = match.lastgroup
            if match["hex"]:
                self._show_bytes(bytes.fromhex(match["hex"]))
            elif kind == "text":
                self._show_bytes(match["text"].encode("latin-1"))
            elif match["brace"]:
                self._brace(match["brace"])
                if not self._stack:
                    break  # the document's own brace: what follows is no RTF
            elif match["symbol"]:
                self._symbol(match["symbol"])
            elif match["word"]:
                place += self._word(match["word"], match["number"])
        self._flush()
        joined = "".join(self._parts)
        return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _brace(self, brace: str) -> None:
        self._flush()
        self._pending = 0
        if brace == "}":
            self._group = self._stack.pop()
            return
        if len(self._stack) >= _MAX_DEPTH:
            raise ValueRejectedError("attachment_corrupt", "RTF nested too deep")
        self._stack.append(self._group)

    def _symbol(self, symbol: str) -> None:
        if symbol == "*":
            # A destination for programs that know it: its text is not for reading.
            self._group = replace(self._group, shown=False)
        else:
            self._show(_SYMBOLS.get(symbol, ""))

    def _word(self, word: str, number: str | None) -> int:
        """Obey one control word; returns characters to jump over (``\\binN``)."""
        value = int(number) if number else None
        if word == "bin":
            return max(value or 0, 0)
        if word == "u" and value is not None:
            self._show(chr(value % 65536))
            self._pending = self._group.fallback
        elif word == "uc":
            self._group = replace(self._group, fallback=min(max(value or 0, 0), 16))
        elif word == "ansicpg":
            self._flush()
            self._codec = _CODE_PAGES.get(value or 0, "cp1252")
        elif word in ("v", "deleted"):
            self._flush()
            self._group = replace(self._group, visible=value == 0)
        elif word == "plain":
            self._group = replace(self._group, visible=True)
        elif word in _NOT_TEXT:
            self._group = replace(self._group, shown=False)
        elif word in _WORDS:
            self._show(_WORDS[word])
        return 0

    def _show(self, words: str) -> None:
        self._flush()
        if words and self._group.shown and self._group.visible:
            self._parts.append(words)

    def _show_bytes(self, data: bytes) -> None:
        dropped = min(self._pending, len(data))
        self._pending -= dropped
        if self._group.shown and self._group.visible:
            self._bytes += data[dropped:]

    def _flush(self) -> None:
        """Decode what was collected: a character may be two bytes, so not singly."""
        if self._bytes:
            self._parts.append(self._bytes.decode(self._codec, "replace"))
            self._bytes.clear()
