"""PDF files with a text layer, written by the drawing library we already have."""

from __future__ import annotations

import io
from functools import cache

import matplotlib
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure


@cache
def text_pdf(*pages: str, font: int = 42) -> bytes:
    """One page per text; ``font`` is 3 or 42 (Type 3 or TrueType)."""
    made = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": font}), PdfPages(made) as book:
        for words in pages:
            figure = Figure(figsize=(6, 4))
            figure.text(0.05, 0.9, words, va="top")
            book.savefig(figure)
    return made.getvalue()
