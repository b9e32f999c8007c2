"""Text from others comes out as words, whatever it holds."""

from __future__ import annotations

import pytest

from cds_hooks.markdown_text import escaped, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert\\(1\\)&gt;"),
        ("a & b", "a &amp; b"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("[click](http://evil.example)", "\\[click\\]\\(http\\://evil.example\\)"),
        ("![x](y)", "\\!\\[x\\]\\(y\\)"),
        ("www.evil.example", "www\\.evil.example"),
        ("mail me@evil.example", "mail me\\@evil.example"),
        ("javascript:alert", "javascript:alert"),
        ("**bold** _it_ ~no~ `code`", "\\*\\*bold\\*\\* \\_it\\_ \\~no\\~ \\`code\\`"),
        ("line\n# heading", "line \\# heading"),
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("1) item", "1\\) item"),
        ("> quote", "&gt; quote"),
        ("a|b", "a\\|b"),
        ("back\\slash", "back\\\\slash"),
        ("\u202egnirts", "gnirts"),
        ("zero\u200bwidth", "zerowidth"),
        ("tab\tbell\x07", "tab bell"),
        ("2.5 mmol/L", "2.5 mmol/L"),
        ("", ""),
    ],
)
def test_markup_becomes_text(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_long_text_is_cut_with_a_mark() -> None:
    assert escaped("x" * 700).endswith("\u2026")
    assert len(escaped("x" * 700)) == 600
    assert escaped("x" * 600) == "x" * 600


def test_plain_text_is_one_printable_line_without_tags() -> None:
    assert plain("a\n<b>\x00c</b>\u2028d", 100) == "a b c/b d"
    assert plain("word " * 50, 20) == "word word word word\u2026"
    assert plain("x" * 20, 20) == "x" * 20
