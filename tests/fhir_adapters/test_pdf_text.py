"""PDF: the text layer, through a child that cannot hurt anyone."""

from __future__ import annotations

import io
import json
import sys
import time

import pytest
from pypdf import PdfWriter

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.resources.pdf_child import extract
from fhir_adapters.resources.pdf_text import PdfTexts
from tests.fhir_adapters.pdf_samples import text_pdf

WORDS = "FINDINGS: Clear lungs, SpO\u2082 naïve.\nIMPRESSION: none"
PATIENT = AdapterPolicy(pdf_seconds=60.0)


def reason(raw: bytes, texts: PdfTexts) -> str:
    with pytest.raises(ValueRejectedError) as raised:
        texts.read(raw)
    return raised.value.reason


def misbehaving(code: str, policy: AdapterPolicy = PATIENT) -> PdfTexts:
    """A reader whose child runs ``code`` instead; the limits are its arguments."""
    return PdfTexts(policy, command=(sys.executable, "-S", "-c", code))


def rewritten(raw: bytes, **encryption: str) -> bytes:
    writer = PdfWriter(clone_from=io.BytesIO(raw))
    if encryption:
        writer.encrypt(**encryption, algorithm="RC4-128")
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


@pytest.mark.parametrize("font", [3, 42])
def test_a_real_child_reads_the_text_layer(font: int) -> None:
    words, truncated = PdfTexts(PATIENT).read(text_pdf(WORDS, font=font))
    assert words.splitlines()[1] == "IMPRESSION: none"
    assert words.startswith("FINDINGS: Clear lungs, SpO")
    assert truncated is False


def test_pages_and_characters_are_capped() -> None:
    raw = text_pdf("one", "two", "three")
    assert extract(raw, 9, 99) == {"text": "one\ntwo\nthree", "truncated": False}
    assert extract(raw, 2, 99) == {"text": "one\ntwo", "truncated": True}
    assert extract(raw, 9, 5) == {"text": "one\nt", "truncated": True}
    small = AdapterPolicy(pdf_seconds=60.0, max_note_chars=5, pdf_pages=1)
    assert PdfTexts(small).read(raw) == ("one", True)


def test_an_encrypted_file_is_named_as_such() -> None:
    raw = rewritten(text_pdf("one"), user_password="x", owner_password="y")
    assert extract(raw, 1, 9) == {"reason": "pdf_encrypted"}
    assert reason(raw, PdfTexts(PATIENT)) == "pdf_encrypted"


def test_bytes_that_are_no_pdf_start_no_child() -> None:
    texts = misbehaving("raise SystemExit('started')")
    assert reason(b"{\\rtf1}", texts) == "pdf_unreadable"
    # The allowance is untouched: a later PDF is tried.
    assert reason(b"%PDF-1.4", texts) == "pdf_unreadable"


def test_a_broken_file_ends_the_child_and_not_the_caller() -> None:
    whole = text_pdf("one")
    loop = whole.replace(b"/Kids [ ", b"/Kids [ 2 0 R ")
    for raw in (b"%PDF-1.7\n", whole[: len(whole) // 2], loop[:400]):
        assert reason(raw, PdfTexts(PATIENT)) == "pdf_unreadable"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import time; time.sleep(60)", "pdf_limit"),
        ("import os; os.kill(os.getpid(), 9)", "pdf_limit"),
        ("raise SystemExit(3)", "pdf_unreadable"),
        ("print('no json')", "pdf_unreadable"),
        ("print('[1]')", "pdf_unreadable"),
        ("print('{\"text\": 5}')", "pdf_unreadable"),
        ('print(\'{"reason": "pdf_limit"}\')', "pdf_limit"),
        ('print(\'{"reason": "Mrs. Smith"}\')', "pdf_unreadable"),
    ],
)
def test_a_child_that_misbehaves_is_not_believed(code: str, expected: str) -> None:
    seconds = 1.5 if "sleep" in code else 60.0
    texts = misbehaving(code, AdapterPolicy(pdf_seconds=seconds))
    began = time.monotonic()
    assert reason(b"%PDF-1.4", texts) == expected
    assert time.monotonic() - began < 30.0


def test_one_record_has_one_allowance() -> None:
    good = f"print({json.dumps(json.dumps({'text': 'x'}))})"
    texts = misbehaving(good, AdapterPolicy(pdf_documents=2, pdf_seconds=60.0))
    assert [texts.read(b"%PDF-1.4") for _ in range(2)] == [("x", False)] * 2
    assert reason(b"%PDF-1.4", texts) == "pdf_limit"
    slow = misbehaving("import time; time.sleep(9)", AdapterPolicy(pdf_seconds=0.2))
    assert [reason(b"%PDF-1.4", slow) for _ in range(2)] == ["pdf_limit"] * 2


def test_the_child_of_a_parser_holds_nothing_and_may_do_nothing() -> None:
    """Environment empty; the real module's limits seen from within."""
    code = (
        "import sys, json, os; sys.argv = ['x'] + sys.argv[1:]\n"
        "import fhir_adapters.resources.pdf_child as c\n"
        "def spy(data, pages, characters):\n"
        "    if pages == 1 and characters == 10: return {}\n"
        "    found = [str(dict(os.environ))]\n"
        "    for work in (lambda: open('/etc/hostname'), lambda: bytearray(2**30),\n"
        "                 lambda: __import__('socket').socket()):\n"
        "        try: work(); found.append('allowed')\n"
        "        except (OSError, MemoryError, ImportError): found.append('refused')\n"
        "    return {'text': ' '.join(found)}\n"
        "c.extract = spy\n"
        "os._exit(c.main(sys.argv[1:]))\n"
    )
    texts = PdfTexts(PATIENT, command=(sys.executable, "-P", "-s", "-c", code))
    words, _ = texts.read(text_pdf("one"))
    assert words.endswith("} refused refused refused")
    assert "TRIVIUM" not in words and "HOME" not in words
