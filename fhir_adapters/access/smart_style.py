"""``smart_style_url``: the EHR's look, taken as data and never as CSS (S18).

The document is fetched only from the issuer's own origin (or one that the operator
lists), and of it only known names with values of a fixed pattern are kept. Attack: a
style that loads from elsewhere (``url(...)``) or hides a warning.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from fhir_adapters.access.outbound import OutboundDoor
from fhir_adapters.access.smart_discovery import MAX_DOCUMENT_BYTES, read_document
from fhir_adapters.errors import OutboundRefusedError, SmartError

_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_SIZE = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?px")
PATTERNS: Mapping[str, re.Pattern[str]] = {
    "color_background": _COLOUR,
    "color_error": _COLOUR,
    "color_highlight": _COLOUR,
    "color_modal_backdrop": _COLOUR,
    "color_success": _COLOUR,
    "color_text": _COLOUR,
    "dim_border_radius": _SIZE,
    "dim_font_size": _SIZE,
    "dim_spacing_size": _SIZE,
}


def fetch_style(
    door: OutboundDoor,
    issuer: str,
    url: str,
    deadline: float | None = None,
    *,
    allowed_origins: Collection[str] = (),
) -> dict[str, str]:
    """The values of the document at ``url`` that are colours and sizes.

    Args:
        door: The guarded door.
        issuer: The EHR that named the URL.
        url: ``smart_style_url`` of its token response.
        deadline: ``time.monotonic()`` value.
        allowed_origins: Other origins that the operator trusts with this.

    Raises:
        OutboundRefusedError: "style_origin", or the door's own reasons.
        SmartError: "style_malformed".
        UpstreamError: No answer.
    """
    parsed = door.check(url)
    if parsed.origin not in {door.check(issuer).origin, *allowed_origins}:
        raise OutboundRefusedError("style_origin")
    headers = {"Accept": "application/json"}
    answer = door.get(url, headers, deadline, max_bytes=MAX_DOCUMENT_BYTES)
    if answer.status != 200:
        raise SmartError("style_malformed")
    document = read_document(answer, "style_malformed")
    return {
        name: value
        for name, pattern in PATTERNS.items()
        if isinstance(value := document.get(name), str) and pattern.fullmatch(value)
    }
