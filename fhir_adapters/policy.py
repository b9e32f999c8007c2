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
        max_note_chars: Longer notes are cut there and flagged ("truncated").
        max_attachment_bytes: Larger attachments are skipped.
        max_resources: Resources beyond this number are refused altogether.
    """

    site_zone: tzinfo | None = None
    fhir_base: str = ""
    future_tolerance: timedelta = timedelta(hours=24)
    exclude_report_of_image: bool = True
    max_note_chars: int = 100_000
    max_attachment_bytes: int = 2_000_000
    max_resources: int = 50_000
