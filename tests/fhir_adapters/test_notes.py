"""Reports, documents, attachments and sections: what becomes a note."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.notes import notes_and_skips
from fhir_adapters.patient_record import Provenance
from fhir_adapters.policy import AdapterPolicy
from fhir_adapters.received import Received
from fhir_adapters.resources.attachment import (
    attachment_text,
    clean_text,
    readable_first,
    strip_html,
)
from fhir_adapters.resources.clinical_note import read_document, replaced
from fhir_adapters.resources.diagnostic_report import read_report
from fhir_adapters.resources.sections import find_sections
from tests.fhir_adapters.fhir_samples import (
    BEFORE,
    CUTOFF,
    attachment,
    concept,
    document,
    loinc,
    report,
)
from tests.fhir_adapters.pdf_samples import text_pdf


def binary(raw, content_type="application/pdf"):
    data = base64.b64encode(raw).decode()
    return {"contentType": content_type, "data": data}


SOURCE = Provenance("DiagnosticReport/r1", "fhir", "0" * 64)
POLICY = AdapterPolicy()


def note(resource, **policy):
    read = read_report if resource["resourceType"] == "DiagnosticReport" else None
    return (read or read_document)(
        resource, SOURCE, cutoff=CUTOFF, policy=AdapterPolicy(**policy)
    )


def reason(resource, **policy):
    with pytest.raises(ValueRejectedError) as raised:
        note(resource, **policy)
    return raised.value.reason


def text_reason(made, policy=POLICY):
    with pytest.raises(ValueRejectedError) as raised:
        attachment_text(made, policy)
    return raised.value.reason


def test_plain_text_comes_before_html_and_html_before_the_conclusion():
    forms = [
        attachment("<x/>", "application/xml"),
        attachment("<p>from html</p>", "text/html"),
        attachment("from text"),
    ]
    assert note(report(presentedForm=forms)).text == "from text"
    assert note(report(presentedForm=forms[:2])).text == "from html"
    made = report(presentedForm=forms[:1], conclusion=" from conclusion ")
    assert note(made).text == "from conclusion"
    assert reason(report(presentedForm=forms[:1])) == "content_type"
    assert reason(report(presentedForm=None)) == "no_text"
    assert reason(report(presentedForm=None, conclusion=["x"])) == "no_text"


def test_rtf_comes_after_html_and_a_pdf_last():
    rtf = attachment(r"{\rtf1 from rtf}", "text/richtext; charset=us-ascii")
    forms = [binary(text_pdf("from pdf")), rtf, attachment("<p>x", "text/html")]
    patience = {"pdf_seconds": 60.0}
    assert note(report(presentedForm=forms)).text == "x"
    assert note(report(presentedForm=forms[:2])).text == "from rtf"
    assert note(report(presentedForm=forms[:1]), **patience).text == "from pdf"
    # A form that gives nothing makes way for the next, down to the conclusion.
    broken = [attachment("x", "text/rtf"), binary(b"%PDF-1.4 cut")]
    made = report(presentedForm=broken, conclusion="from conclusion")
    assert note(made, **patience).text == "from conclusion"
    del made["conclusion"]
    assert reason(made, **patience) == "attachment_corrupt"


def test_a_record_opens_so_many_pdfs_and_no_more():
    forms = [binary(text_pdf(f"page {n}")) for n in range(3)]
    documents = [
        (Received(document(id=f"d{n}", content=[{"attachment": form}]), "fhir"), source)
        for n, form in enumerate(forms)
        for source in [Provenance(f"DocumentReference/d{n}", "fhir", "0" * 64)]
    ]
    policy = AdapterPolicy(pdf_documents=2, pdf_seconds=60.0)
    notes, skips = notes_and_skips([], documents, [], [], cutoff=CUTOFF, policy=policy)
    assert {n.text for n in notes} == {"page 0", "page 1"}
    assert [(s.reference, s.reason) for s in skips] == [
        ("DocumentReference/d2", "pdf_limit")
    ]


@pytest.mark.parametrize(
    ("said", "languages", "read"),
    [
        ("en-GB", {"en"}, True),
        ("EN_us", {"en"}, True),
        ("de", {"en"}, False),
        ("de-CH", {"en", "de"}, True),
        ("de", set(), True),
        (None, {"en"}, True),
        ("", {"en"}, True),
    ],
)
def test_text_in_a_language_nobody_reads_is_no_note(said, languages, read):
    policy = {"languages": frozenset(languages)}
    by_form = report(presentedForm=[attachment("Lunge frei.", language=said)])
    by_resource = report(presentedForm=None, conclusion="x", language=said)
    for made in (by_form, by_resource):
        if read:
            assert note(made, **policy).text
        else:
            assert reason(made, **policy) == "language"


def test_a_translation_that_can_be_read_is_taken():
    forms = [attachment("Lunge frei.", language="de"), attachment("Clear lungs.")]
    assert note(report(presentedForm=forms)).text == "Clear lungs."


def test_xhtml_is_reduced_and_xml_is_never_parsed():
    made = attachment("<div xmlns='x'>seen</div>", "application/xhtml+xml")
    assert attachment_text(made, POLICY) == "seen"
    bomb = "<!DOCTYPE a [<!ENTITY b 'x'>]><a>&b;</a>"
    assert text_reason(attachment(bomb, "application/xml")) == "content_type"
    assert text_reason(attachment(bomb, "text/xml")) == "content_type"
    # Called HTML, its entity stays a name: nothing is ever expanded.
    assert "x'" not in attachment_text(attachment(bomb, "text/html"), POLICY)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("entered-in-error", "entered_in_error"),
        ("cancelled", "cancelled"),
        ("registered", "registered"),
        ("unknown", "unknown_status"),
        (None, "missing_status"),
    ],
)
def test_a_report_must_be_readable_by_its_status(status, expected):
    assert reason(report(status=status)) == expected


def test_a_status_below_or_after_final_is_flagged():
    assert note(report(status="preliminary")).flags == ("preliminary",)
    assert note(report(status="final")).flags == ()
    assert note(document(docStatus="amended")).flags == ("amended",)


def test_modifier_extensions_stop_a_note():
    extension = [{"url": "urn:x"}]
    assert reason(report(modifierExtension=extension)) == "modifier_extension"
    assert reason(document(modifierExtension=extension)) == "modifier_extension"


def test_issued_is_the_time_of_a_report():
    made = note(report(issued="2026-03-01T09:00:00Z"))
    assert made.written_at.hour == 9
    assert note(report()).written_at.hour == 8
    assert reason(report(issued="2026-03-01T13:00:00Z")) == "after_cutoff"
    assert reason(report(effectiveDateTime=None)) == "no_timestamp"


@pytest.mark.parametrize(
    ("category", "code", "kind"),
    [
        ("RAD", "36643-5", "radiology_report"),
        ("LP29684-5", "0", "radiology_report"),
        ("LAB", "0", "laboratory_report"),
        ("other", "36643-5", "radiology_report"),
        ("other", "0", "diagnostic_report"),
    ],
)
def test_the_kind_of_a_report(category, code, kind):
    made = report(category=[concept(("urn:x", category))], code=concept(("x", code)))
    assert note(made).kind == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("18842-5", "discharge_summary"),
        ("18748-4", "radiology_report"),
        ("0", "clinical_note"),
    ],
)
def test_the_kind_of_a_document(code, kind):
    assert note(document(type=loinc(code))).kind == kind


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"status": "entered-in-error"}, "entered_in_error"),
        ({"docStatus": "entered-in-error"}, "entered_in_error"),
        ({"status": "superseded"}, "superseded"),
        ({"status": None}, "missing_status"),
        ({"status": "bogus"}, "unknown_status"),
        ({"docStatus": "bogus"}, "unknown_status"),
        ({"content": None}, "no_text"),
        ({"content": [{"attachment": []}]}, "content_type"),
        ({"date": None}, "no_timestamp"),
        ({"date": "2026-03-01T13:00:00Z"}, "after_cutoff"),
    ],
)
def test_documents_that_are_no_evidence(more, expected):
    assert reason(document(**more)) == expected


def test_a_document_without_date_uses_its_creation_or_period():
    made = document(date=None)
    made["content"][0]["attachment"]["creation"] = BEFORE
    assert note(made).written_at.hour == 8
    made = document(date=None, context={"period": {"end": BEFORE}})
    assert note(made).written_at.hour == 8


def test_a_replaced_document_is_known_by_its_successor():
    target = [{"code": "replaces", "target": {"reference": "DocumentReference/old"}}]
    assert replaced([document(relatesTo=target)]) == {"DocumentReference/old"}
    # A withdrawn successor does not take its predecessor along.
    assert not replaced([document(relatesTo=target, status="entered-in-error")])
    target[0]["code"] = "appends"
    assert not replaced([document(relatesTo=target)])


def test_long_text_is_cut_and_says_so():
    made = note(document("x" * 50), max_note_chars=10)
    assert (made.text, made.flags) == ("x" * 10, ("truncated",))


def test_sections_are_found_by_their_headings():
    made = note(report("XR CHEST\nFindings: Clear\nlungs.\n\nIMPRESSION:\n No change "))
    parts = {s.title: made.text[s.start : s.end] for s in made.sections}
    assert parts == {"findings": "Clear\nlungs.", "impression": "No change"}


def test_a_colon_alone_is_no_heading():
    assert find_sections("at 10:30 the patient said: hello\nNote: x") == ()
    assert find_sections("FINDINGS:\nIMPRESSION: y")[0].title == "impression"
    assert find_sections("CXR 2 VIEWS: clear")[0].title == "cxr 2 views"


def test_html_is_reduced_to_its_visible_text():
    markup = (
        "<!DOCTYPE html><html><head><title>T</title><STYLE>p{}</STYLE></head><body>"
        "<p class='a'>FINDINGS: SpO2 < 90 &amp; <b>fever</b></p><!-- hidden -->"
        "<script>alert(1)</SCRIPT ><div>IMPRESSION<br/>ok</div></body></html>"
    )
    assert strip_html(markup) == "FINDINGS: SpO2 < 90 & fever\nIMPRESSION\nok"


@pytest.mark.parametrize(
    "tail", ["<script>x", "<!-- x", "<p", "<script", "<style>a</x>"]
)
def test_unfinished_markup_ends_the_text(tail):
    assert strip_html("seen" + tail) == "seen"


@pytest.mark.parametrize("piece", ["<", "<!--", "<a ", "<script>", "</", "<![x["])
def test_crafted_markup_takes_linear_time(piece):
    start = time.process_time()
    strip_html(piece * 200_000)
    assert time.process_time() - start < 5.0


def test_text_is_cleaned_of_what_breaks_later_steps():
    assert clean_text(" a\r\nb\x00\u200b\ud800 ") == "a\nb?"


def test_an_attachment_is_checked_against_its_size_and_hash():
    raw = b"hello"
    good = base64.b64encode(hashlib.sha1(raw).digest()).decode()
    assert attachment_text(attachment("hello", hash=good, size=5), POLICY) == "hello"
    bad = base64.b64encode(hashlib.sha1(b"other").digest()).decode()
    assert text_reason(attachment("hello", hash=bad)) == "attachment_corrupt"
    assert text_reason(attachment("hello", size=6)) == "attachment_corrupt"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"contentType": "text/plain", "url": "Binary/1"}, "attachment_not_fetched"),
        ({"contentType": "text/plain"}, "no_text"),
        ({"contentType": "text/plain", "data": ["x"]}, "no_text"),
        ({"contentType": "text/plain", "data": "%%%"}, "attachment_corrupt"),
        ({"contentType": "text/plain", "data": "\u00e9"}, "attachment_corrupt"),
        ({"contentType": "text/plain", "data": "/w=="}, "attachment_corrupt"),
        ({"contentType": "text/plain", "data": "ICAg"}, "no_text"),
        ({"contentType": "text/plain; charset=utf-7", "data": "YQ=="}, "content_type"),
        ({"contentType": "text/rtf", "data": "YQ=="}, "attachment_corrupt"),
        ({"contentType": "application/pdf", "data": "YQ=="}, "pdf_unreadable"),
        ({"contentType": "application/xml", "data": "YQ=="}, "content_type"),
        ({"data": "YQ=="}, "content_type"),
        ({}, "content_type"),
    ],
)
def test_attachments_that_give_no_text(made, expected):
    assert text_reason(made) == expected


def test_a_large_attachment_is_not_decoded():
    small = AdapterPolicy(max_attachment_bytes=3)
    assert text_reason(attachment("hello world"), small) == "attachment_too_large"


def test_other_charsets_are_honoured():
    data = base64.b64encode("naïve".encode("latin-1")).decode()
    made = {"contentType": 'text/plain; charset="ISO-8859-1"', "data": data}
    assert attachment_text(made, POLICY) == "naïve"
    assert readable_first([{}, made]) == [made, {}]
