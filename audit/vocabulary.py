"""The words of an audit record and the small integers that are stored for them.

A number, once released, keeps its meaning for ever: it is part of hashed bytes. New
members get new numbers; none is reused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class CodedWord(StrEnum):
    """A word with the stable integer that stands for it in the database."""

    code: int

    def __new__(cls, word: str, code: int = 0) -> Self:
        """Make the member ``word`` with its number ``code``."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.code = code
        return member

    @classmethod
    def from_code(cls, code: int) -> Self:
        """The member stored as ``code``.

        Raises:
            ValueError: no member has this number.
        """
        for member in cls:
            if member.code == code:
                return member
        raise ValueError(f"{cls.__name__} has no code {code}")


class EventType(CodedWord):
    """What happened."""

    STREAM_OPEN = "stream.open", 1
    STREAM_CLOSE = "stream.close", 2
    CDS_INTENT = "cds.intent", 10
    CDS_OUTCOME = "cds.outcome", 11
    CDS_REFUSED = "cds.refused", 12
    CDS_FEEDBACK = "cds.feedback", 13
    FHIR_READ = "fhir.read", 20
    FHIR_SEARCH = "fhir.search", 21
    FHIR_WRITE = "fhir.write", 22
    DICOM_FETCH = "dicom.fetch", 23
    JOB_START = "job.start", 30
    JOB_DONE = "job.done", 31
    MODEL_REGISTERED = "model.registered", 40
    MODEL_CHANGED = "model.changed", 41
    MODEL_STOPPED = "model.stopped", 42
    SMART_LAUNCH = "smart.launch", 50
    SMART_VIEW = "smart.view", 51
    AUTH_OK = "auth.ok", 60
    AUTH_FAIL = "auth.fail", 61
    AUTH_LOGOFF = "auth.logoff", 62
    AUTHZ_DENY = "authz.deny", 63
    BREAKGLASS_OPEN = "breakglass.open", 70
    BREAKGLASS_CLOSE = "breakglass.close", 71
    BREAKGLASS_REVIEW = "breakglass.review", 72
    AUDIT_QUERY = "audit.query", 80
    AUDIT_QUERY_RESULT = "audit.query.result", 81
    AUDIT_EXPORT = "audit.export", 82
    AUDIT_VERIFY = "audit.verify", 83
    AUDIT_STATE = "audit.state", 84
    DISCLOSURE = "disclosure", 90
    SUBJECT_LOG_READ = "subject.log.read", 91
    RECTIFY = "rectify", 92
    ERASE_REQUEST = "erase.request", 93
    ERASE_DONE = "erase.done", 94
    HOLD_SET = "hold.set", 95
    HOLD_CLEAR = "hold.clear", 96
    SEGMENT_DROP = "segment.drop", 97
    CONFIG_CHANGE = "config.change", 100
    PRIVILEGE_CHANGE = "privilege.change", 101
    KEY_ROTATE = "key.rotate", 102
    KEK_DESTROY = "kek.destroy", 103
    JOURNAL_REPLAY = "journal.replay", 104
    RESTORE_OPEN = "restore.open", 105
    RESTORE_DONE = "restore.done", 106
    REVIEW_ACTIVITY = "review.activity", 110
    ALARM = "alarm", 111


class Action(CodedWord):
    """FHIR AuditEvent.action: create, read, update, delete, execute."""

    CREATE = "C", 1
    READ = "R", 2
    UPDATE = "U", 3
    DELETE = "D", 4
    EXECUTE = "E", 5


class Outcome(CodedWord):
    """How it ended; ``unknown`` is what a reconciler writes after a crash."""

    OK = "ok", 1
    REFUSED = "refused", 2
    FAILED = "failed", 3
    UNKNOWN = "unknown", 4


class Phase(CodedWord):
    """An intent is durable before patient data is used, its outcome before a card."""

    INTENT = "intent", 1
    OUTCOME = "outcome", 2
    SINGLE = "single", 3


class Purpose(CodedWord):
    """Purpose of use, in the codes of HL7 v3 PurposeOfUse."""

    TREAT = "TREAT", 1
    HPAYMT = "HPAYMT", 2
    HOPERAT = "HOPERAT", 3
    HRESCH = "HRESCH", 4
    PATRQT = "PATRQT", 5
    ETREAT = "ETREAT", 6
    PUBHLTH = "PUBHLTH", 7
    HCOMPL = "HCOMPL", 8
    HSYSADMIN = "HSYSADMIN", 9


class LawfulBasis(CodedWord):
    """GDPR basis of the processing, article 6 and where needed article 9."""

    CARE = "6-1-e+9-2-h", 1
    LEGAL_OBLIGATION = "6-1-c", 2
    CONSENT = "6-1-a+9-2-a", 3
    VITAL_INTEREST = "6-1-d+9-2-c", 4
    LEGITIMATE_INTEREST = "6-1-f", 5


class AgentKind(CodedWord):
    """Who acted; a service names the human in ``Agent.name`` where it is known."""

    HUMAN = "human", 1
    SERVICE = "service", 2
    DEVICE = "device", 3
