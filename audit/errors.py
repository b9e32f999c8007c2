"""Every error of the audit package.

    AuditError
    ├── EventError              the caller's event breaks a rule (field)
    ├── AuditConfigurationError the process must not start (setting)
    ├── AuditUnavailableError   no device took the record: answer 503 (reason)
    ├── DatabaseDownError       the evidence database did not take a batch (reason)
    ├── JournalError            the journal cannot take or give back frames (reason)
    ├── KeyringError
    │   ├── KeysUnavailableError   the key database does not answer
    │   ├── SubjectNotLiveError    the subject was erased or is being erased
    │   └── DecryptionError        an envelope does not open (reason)
    ├── RefusedError            forbidden by policy: exit code 4 (reason)
    └── UncheckableError        verification could not run: exit code 3 (reason)

``reason``, ``field`` and ``setting`` are codes that are safe to log; no message holds
patient data, a key or a token.
"""

from __future__ import annotations


class AuditError(Exception):
    """Root of all errors raised here."""


class EventError(AuditError):
    """An event that must not be recorded as it stands; ``field`` names the culprit."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class AuditConfigurationError(AuditError):
    """A setting, key file or database that a process must not start with."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class AuditUnavailableError(AuditError):
    """Neither the database nor the journal made the record durable; show nothing."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"audit record not durable: {reason}")
        self.reason = reason


class JournalError(AuditError):
    """The local journal refuses: full, replaced, corrupt, unwritable, ..."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"journal: {reason}")
        self.reason = reason


class KeyringError(AuditError):
    """A key could not be had or did not fit."""


class KeysUnavailableError(KeyringError):
    """The key database does not answer (in time)."""


class SubjectNotLiveError(KeyringError):
    """The subject's keys were destroyed or are about to be: nothing is recorded."""


class DecryptionError(KeyringError):
    """An envelope or a wrapped key does not open; ``reason`` says at which check."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"envelope does not open: {reason}")
        self.reason = reason


class RefusedError(AuditError):
    """The operation is against policy (exit code 4)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"refused: {reason}")
        self.reason = reason


class UncheckableError(AuditError):
    """The verifier could not read what it must check (exit code 3)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"could not check: {reason}")
        self.reason = reason


class DatabaseDownError(AuditError):
    """The evidence database did not take a batch.

    ``in_doubt`` tells whether the batch may be there all the same.
    """

    def __init__(self, reason: str, in_doubt: bool) -> None:
        super().__init__(f"database: {reason}")
        self.reason = reason
        self.in_doubt = in_doubt
