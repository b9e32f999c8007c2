"""PDF -> the text of its text layer, read in a limited child process.

A PDF parser in this process would be the widest door into it: object bombs, loops in
the page tree, streams that inflate without end. The child (:mod:`.pdf_child`) has no
environment, no files and hard limits; here the wall clock, the number of documents of
one record and the size of the answer are kept. A scan has no text layer, which is
``no_text`` and not an error.

    texts = PdfTexts(policy)          # one for each record
    words, truncated = texts.read(raw)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from fhir_adapters.errors import ValueRejectedError
from fhir_adapters.policy import AdapterPolicy

MEMORY_BYTES = 512 * 1024**2
_MODULE = "fhir_adapters.resources.pdf_child"
# A character is six bytes at most in ASCII JSON; an astral one counts twice.
_BYTES_PER_CHARACTER = 12
_OUTSIDE_TEXT = 200


class PdfTexts:
    """Reads the PDFs of one record within that record's allowance.

    Args:
        policy: ``pdf_documents``, ``pdf_seconds``, ``pdf_pages``, ``max_note_chars``.
        command: What a child runs before its limits; tests pass one that misbehaves.
    """

    def __init__(
        self,
        policy: AdapterPolicy,
        *,
        command: tuple[str, ...] = (sys.executable, "-P", "-s", "-m", _MODULE),
    ) -> None:
        self._policy = policy
        self._command = command
        self._documents = policy.pdf_documents
        self._seconds = policy.pdf_seconds

    def read(self, raw: bytes) -> tuple[str, bool]:
        """The text of one PDF, and whether pages or characters were left out.

        Raises:
            ValueRejectedError: ``pdf_limit`` (time, memory, or too many documents in
                one record), ``pdf_encrypted`` or ``pdf_unreadable``.
        """
        if not raw.lstrip()[:5].startswith(b"%PDF-"):
            raise ValueRejectedError("pdf_unreadable", "no PDF")
        if self._documents <= 0 or self._seconds <= 0:
            raise ValueRejectedError("pdf_limit", "the record's allowance is used up")
        self._documents -= 1
        began = time.monotonic()
        try:
            return self._ask(raw)
        finally:
            self._seconds -= time.monotonic() - began

    def _ask(self, raw: bytes) -> tuple[str, bool]:
        policy = self._policy
        answer_bytes = policy.max_note_chars * _BYTES_PER_CHARACTER + _OUTSIDE_TEXT
        limits = (MEMORY_BYTES, max(int(self._seconds), 1), policy.pdf_pages)
        numbers = (*limits, policy.max_note_chars, answer_bytes)
        # In memory: a patient's words do not belong in a temporary folder.
        with os.fdopen(os.memfd_create("pdf-text"), "w+b") as answer:
            try:
                done = subprocess.run(
                    [*self._command, *map(str, numbers)],
                    input=raw,
                    stdout=answer,
                    stderr=subprocess.DEVNULL,
                    env={},
                    timeout=self._seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise ValueRejectedError("pdf_limit", "time") from error
            if done.returncode:
                killed = done.returncode < 0
                raise ValueRejectedError("pdf_limit" if killed else "pdf_unreadable")
            answer.seek(0)
            return _answer(answer.read(answer_bytes))


def _answer(data: bytes) -> tuple[str, bool]:
    """The child's answer, believed in nothing but its shape.

    Raises:
        ValueRejectedError: The reason it gives, or ``pdf_unreadable``.
    """
    try:
        found: Any = json.loads(data)
    except ValueError as error:
        raise ValueRejectedError("pdf_unreadable", "answer") from error
    said = found if isinstance(found, dict) else {}
    if said.get("reason") in ("pdf_encrypted", "pdf_limit"):
        raise ValueRejectedError(said["reason"])
    words = said.get("text")
    if not isinstance(words, str):
        raise ValueRejectedError("pdf_unreadable", "answer")
    return words, said.get("truncated") is True
