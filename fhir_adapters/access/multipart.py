"""Take apart a multipart/related answer (RFC 2046 section 5.1, RFC 2387), strictly.

DICOMweb wraps every instance in one. A lenient parser would guess where a part ends,
and the guess decides which bytes are the film: what is no multipart is refused.
"""

from __future__ import annotations

import re

from fhir_adapters.errors import MalformedResourceError, ResourceTooLargeError

_MAX_HEADER_BYTES = 8192
_PARAMETER = re.compile(
    r';[ \t]*([A-Za-z0-9_-]+)=(?:"([^"\\\r\n]*)"|([^\s";,]+))[ \t]*'
)
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]")


def parts_of(
    content_type: str, body: bytes, *, part_type: str, max_parts: int
) -> list[bytes]:
    """The contents of every part.

    Args:
        content_type: The answer's Content-Type header, whole.
        body: The answer's body.
        part_type: The media type that every part must have, in lower case.
        max_parts: More parts than this are refused.

    Raises:
        MalformedResourceError: "multipart_malformed" or "multipart_type".
        ResourceTooLargeError: "multipart_too_many_parts".
    """
    delimiter = b"--" + _boundary(content_type, part_type)
    # A preamble is legal but nobody sends one; an empty line before the first
    # delimiter is common.
    if body.startswith(b"\r\n"):
        body = body[2:]
    if not body.startswith(delimiter):
        raise MalformedResourceError("multipart_malformed")
    parts: list[bytes] = []
    position = len(delimiter)
    while not body.startswith(b"--", position):
        if len(parts) == max_parts:
            raise ResourceTooLargeError("multipart_too_many_parts")
        start = _after_line(body, position)
        end = body.find(b"\r\n" + delimiter, start)
        if end < 0:
            # Truncated: the last part may be half a film.
            raise MalformedResourceError("multipart_malformed")
        parts.append(_content(body[start:end], part_type))
        position = end + 2 + len(delimiter)
    if not parts:
        raise MalformedResourceError("multipart_malformed")
    return parts


def _boundary(content_type: str, part_type: str) -> bytes:
    """The boundary that the Content-Type header names."""
    media_type, separator, rest = content_type.partition(";")
    if media_type.strip().lower() != "multipart/related":
        raise MalformedResourceError("multipart_type")
    parameters: dict[str, str] = {}
    position = 0
    text = separator + rest.rstrip()
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or match[1].lower() in parameters:
            # Two boundaries, or a quote that does not end: two parsers would differ.
            raise MalformedResourceError("multipart_malformed")
        parameters[match[1].lower()] = match[2] if match[2] is not None else match[3]
        position = match.end()
    if parameters.get("type", part_type).lower() != part_type:
        raise MalformedResourceError("multipart_type")
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise MalformedResourceError("multipart_malformed")
    return boundary.encode("ascii")


def _after_line(body: bytes, position: int) -> int:
    """The start of the line after a delimiter, which may carry padding."""
    end = body.find(b"\r\n", position, position + 256)
    if end < 0 or body[position:end].strip(b" \t"):
        raise MalformedResourceError("multipart_malformed")
    # Back by the line break itself, so that a part without headers starts with one.
    return end


def _content(part: bytes, part_type: str) -> bytes:
    """A part without its headers, which must agree with its contents."""
    end = part.find(b"\r\n\r\n", 0, _MAX_HEADER_BYTES)
    if end < 0:
        raise MalformedResourceError("multipart_malformed")
    content = part[end + 4 :]
    headers: dict[str, str] = {}
    for line in part[:end].decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    found = headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != part_type:
        raise MalformedResourceError("multipart_type")
    if headers.get("content-length", str(len(content))) != str(len(content)):
        raise MalformedResourceError("multipart_malformed")
    return content
