"""What a site decides about reading evidence; the defaults are the strict choice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta, tzinfo


@dataclass(frozen=True, slots=True)
class AdapterPolicy:
    """How lenient the adapters may be, and every cap they keep.

    Args:
        site_zone: Zone for times that carry none; such values are flagged
            ("site-zone"). None rejects them, because a shift of hours reorders care.
        fhir_base: Base URL of the EHR's FHIR server. Absolute references resolve
            against it; without it an absolute subject cannot be told apart from
            another server's patient with the same id, and is refused.
        future_tolerance: A time later than the cutoff by more than this is taken for
            an error ("future_timestamp") instead of merely "after_cutoff".
        exclude_report_of_image: Leave out the radiology report of the very image that
            is scored: it states the answer, and so would measure reading, not seeing.
        identifying_films: Use a film whose tags say that text is burned into it or that
            a person can be recognised ("burned_in_annotation" and
            "recognizable_features" otherwise). The flags stay on the image.
        max_note_chars: Longer notes are cut there and flagged ("truncated").
        max_attachment_bytes: Larger attachments are skipped.
        max_resources: Resources beyond this number are refused altogether.
        languages: Primary language tags whose text is read; a text that says it is in
            another one is skipped ("language"). Empty: any. Text that names none is
            taken as the site's own.
        pdf_documents: PDFs of one record that are opened; the rest is "pdf_limit".
        pdf_seconds: Wall seconds for all PDFs of one record together.
        pdf_pages: Pages read of one PDF.
    """

    site_zone: tzinfo | None = None
    fhir_base: str = ""
    future_tolerance: timedelta = timedelta(hours=24)
    exclude_report_of_image: bool = True
    identifying_films: bool = False
    max_note_chars: int = 100_000
    max_attachment_bytes: int = 2_000_000
    max_resources: int = 50_000
    languages: frozenset[str] = frozenset({"en"})
    pdf_documents: int = 4
    pdf_seconds: float = 4.0
    pdf_pages: int = 50
