"""Attachment -> plain text: plain, HTML, RTF, PDF, in this order; else a reason.

RTF is read in one bounded pass, a PDF in a limited child process. Other types are not
opened (XML would bring entities and what they expand to): they are skipped with a
reason, so that the card can say that a document exists which nobody here has read. So
is text that says it is in a language the site's policy does not name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import re
import string
import unicodedata

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.elements import Json, number, text
from fhir_adapters.resources.pdf_text import PdfTexts
from fhir_adapters.resources.rtf import rtf_text

_CHARSET = re.compile(r"charset\s*=\s*\"?([A-Za-z0-9._-]{1,40})", re.IGNORECASE)
_CHARSETS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
}
PLAIN, HTML, RTF, PDF = range(4)
READABLE = {
    "text/plain": PLAIN,
    "text/html": HTML,
    "application/xhtml+xml": HTML,
    "text/rtf": RTF,
    "application/rtf": RTF,
    "text/richtext": RTF,
    "application/x-rtf": RTF,
    "application/pdf": PDF,
    "application/x-pdf": PDF,
}
"""Media types that are read, with their place in the order of trust."""
_BLOCKS = frozenset(
    "address article br dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p pre section table "
    "td th tr ul".split()
)
_HIDDEN = frozenset("script style template title noscript".split())
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_TAG = re.compile(r"/?([A-Za-z][A-Za-z0-9]*)")


def strip_html(markup: str) -> str:
    """The visible text of an HTML document, blocks on lines of their own.

    A single pass that looks at each character a bounded number of times: the standard
    parser takes quadratic time on crafted markup and raises on some of it. What is
    left is text, never markup for a page.
    """
    parts: list[str] = []
    # ASCII only: lower() of other letters can change the length and so the places.
    lowered = markup.translate(_LOWER)
    place = 0
    while True:
        start = markup.find("<", place)
        if start < 0:
            parts.append(markup[place:])
            break
        parts.append(markup[place:start])
        place, shown = _after_tag(markup, lowered, start)
        parts.append(shown)
        if place < 0:
            break
    shown_text = html.unescape("".join(parts))
    lines = (" ".join(line.split()) for line in shown_text.splitlines())
    return "\n".join(line for line in lines if line)


def _after_tag(markup: str, lowered: str, start: int) -> tuple[int, str]:
    """Where reading goes on after the "<" at ``start`` (-1: the end), what it shows."""
    if markup.startswith("<!--", start):
        end = markup.find("-->", start + 4)
        return (end + 3 if end >= 0 else -1), ""
    tag = _TAG.match(markup, start + 1)
    if tag is None and markup[start + 1 : start + 2] not in ("!", "?"):
        return start + 1, "<"  # a bare less-than sign, as in "SpO2 < 90"
    end = markup.find(">", start)
    if end < 0:
        return -1, ""
    name = tag.group(1).lower() if tag else ""
    if name in _HIDDEN and markup[start + 1] != "/":
        closing = lowered.find(f"</{name}", end)
        end = markup.find(">", closing) if closing >= 0 else -1
        return (end + 1 if end >= 0 else -1), ""
    return end + 1, "\n" if name in _BLOCKS else ""


def clean_text(value: str) -> str:
    """Normal line ends, no control or lone surrogate characters, no outer space."""
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    # Lone surrogates are legal in JSON escapes and break every later encode().
    value = value.encode("utf-8", "replace").decode("utf-8")
    kept = (
        character
        for character in value
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf")
    )
    return "".join(kept).strip()


def media_type(attachment: Json) -> str:
    """The media type without parameters, lower case."""
    return text(attachment, "contentType").split(";", 1)[0].strip().lower()


def readable_first(attachments: list[Json]) -> list[Json]:
    """Attachments in the order to try: plain text, HTML, RTF, PDF, then the rest."""
    return sorted(
        attachments, key=lambda item: READABLE.get(media_type(item), len(READABLE))
    )


def attachment_text(
    attachment: Json, policy: AdapterPolicy, pdfs: PdfTexts | None = None
) -> str:
    """Decode the text of one attachment.

    Args:
        attachment: The Attachment with its data inline.
        policy: Caps and languages.
        pdfs: The PDF allowance of the record; by default one for this text alone.

    Raises:
        ValueRejectedError: ``content_type``, ``language``, ``attachment_not_fetched``
            (only a URL), ``attachment_too_large``, ``attachment_corrupt``,
            ``no_text``, or a reason of :class:`PdfTexts`.
    """
    kind = READABLE.get(media_type(attachment))
    if kind is None:
        raise ValueRejectedError("content_type")
    check_language(attachment, policy)
    data = attachment.get("data")
    if not isinstance(data, str):
        reason = "attachment_not_fetched" if text(attachment, "url") else "no_text"
        raise ValueRejectedError(reason)
    if len(data) > policy.max_attachment_bytes * 4 // 3 + 4:
        raise ValueRejectedError("attachment_too_large")
    raw = _raw(data, attachment)
    if kind == PDF:
        decoded = (pdfs or PdfTexts(policy)).read(raw)[0]
    elif kind == RTF:
        decoded = rtf_text(raw)
    else:
        decoded = _decode(raw, attachment)
        decoded = strip_html(decoded) if kind == HTML else decoded
    found = clean_text(decoded)
    if not found:
        raise ValueRejectedError("no_text")
    return found


def check_language(node: Json, policy: AdapterPolicy) -> None:
    """Refuse text that says it is in a language the policy does not name (BCP 47).

    Raises:
        ValueRejectedError: ``language``. A model of English reads German words as
            noise, and noise must not count as a note that is present.
    """
    primary = text(node, "language").replace("_", "-").split("-", 1)[0].lower()
    if primary and policy.languages and primary not in policy.languages:
        raise ValueRejectedError("language")


def _raw(data: str, attachment: Json) -> bytes:
    """base64, checked against the hash and size that came with it."""
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueRejectedError("attachment_corrupt") from error
    size, digest = number(attachment, "size"), text(attachment, "hash")
    # R4 fixes SHA-1 for Attachment.hash: a transfer check, not a security measure.
    sha1 = hashlib.sha1(raw, usedforsecurity=False).digest()
    if digest and digest != base64.b64encode(sha1).decode():
        raise ValueRejectedError("attachment_corrupt", "hash")
    if size is not None and size != len(raw):
        raise ValueRejectedError("attachment_corrupt", "size")
    return raw


def _decode(raw: bytes, attachment: Json) -> str:
    """Bytes in the charset that the content type names, UTF-8 where it names none."""
    match = _CHARSET.search(text(attachment, "contentType"))
    charset = _CHARSETS.get(match.group(1).lower()) if match else "utf-8"
    if charset is None:
        raise ValueRejectedError("content_type", "charset")
    try:
        return raw.decode(charset)
    except UnicodeDecodeError as error:
        raise ValueRejectedError("attachment_corrupt", "charset") from error
