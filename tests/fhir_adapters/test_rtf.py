"""RTF: the words a reader sees, in one bounded pass."""

from __future__ import annotations

import time

import pytest

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.resources.rtf import rtf_text


def text(body: bytes) -> str:
    return rtf_text(b"{\\rtf1\\ansi" + body + b"}")


def test_a_report_is_read_with_its_lines_and_tables() -> None:
    body = rb" \b FINDINGS:\b0\tab clear\par IMPRESSION:\line none\cell x\~y\_z\{1\}\\"
    assert text(body) == "FINDINGS:\tclear\nIMPRESSION:\nnone\tx y-z{1}\\"


def test_line_ends_of_the_file_are_no_text() -> None:
    assert text(b" one\r\ntwo\\\nthree") == "onetwo\nthree"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (rb"\ansicpg1252 caf\'e9", "café"),
        (rb"\ansicpg1250 \'9c", "ś"),
        (rb"\ansicpg932 \'83\'65", "テ"),
        (b"\\ansicpg1252 caf\xe9", "café"),
        (rb"\ansicpg7 \'e9", "é"),
        (rb"\ansicpg1252 \'81", "\ufffd"),
        (rb"\u8805 ?5", "≥5"),
        (rb"\u-10179?\u-8704?", "\U0001f600"),
        (rb"\u-10179?x", "\ufffdx"),
        (rb"\uc2\u8805 ab5", "≥5"),
        (rb"\uc0\u8805 5", "≥5"),
        (rb"\u8805\'3e5", "≥5"),
        (rb"{\uc3 x}\u8805 ?5", "x≥5"),
        (rb"\ldblquote a\rdblquote\emdash\bullet", "“a”—•"),
    ],
)
def test_characters_are_those_that_were_meant(body: bytes, expected: str) -> None:
    assert text(body) == expected


@pytest.mark.parametrize(
    "hidden",
    [
        rb"{\fonttbl{\f0 Arial;}}",
        rb"{\info{\author Dr. Who}{\title secret}}",
        rb"{\*\generator Writer;}",
        rb"{\pict\pngblip 89504e47}",
        rb"{\object{\objdata 0105}}",
        rb"{\field{\*\fldinst HYPERLINK http://evil.example}}",
        rb"{\header page 1}",
        rb"{\v not seen}",
        rb"\v not seen\v0 ",
        rb"\v not seen\plain ",
        rb"{\deleted withdrawn}",
        b"\\bin9 }}}{{{\\\\x",
    ],
)
def test_what_no_reader_sees_is_left_out(hidden: bytes) -> None:
    assert text(b" before " + hidden + b"after").split() == ["before", "after"]


def test_the_document_ends_with_its_own_brace() -> None:
    assert rtf_text(rb"{\rtf1 a} b {\rtf1 c}") == "a"
    assert rtf_text(b"\xef\xbb\xbf\r\n{\\rtf1 a") == "a"
    # A control word with nothing to show and a broken escape end nothing.
    assert text(rb" a\unknown5 b\u c\'zz d") == "a" + "bc" + "zz d"


@pytest.mark.parametrize("raw", [b"", b"words", b"<html>", b"{\\urtf1}", b"%PDF-1.4"])
def test_other_bytes_are_no_rtf(raw: bytes) -> None:
    with pytest.raises(ValueRejectedError) as raised:
        rtf_text(raw)
    assert raised.value.reason == "attachment_corrupt"


def test_nesting_is_capped() -> None:
    assert text(b"{" * 150 + b"x" + b"}" * 150) == "x"
    with pytest.raises(ValueRejectedError):
        text(b"{" * 100_000)


@pytest.mark.parametrize(
    "piece",
    [b"\\", b"\\'", b"{}", b"\\u1", b"\\bin99999999999", b"a", b"\\v ", b"\x00"],
)
def test_crafted_documents_take_linear_time(piece: bytes) -> None:
    start = time.process_time()
    text(piece * (500_000 // len(piece)))
    assert time.process_time() - start < 5.0
