"""Which rows may speak of which admission, and until when."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from model.datasets.csv_table import Row
from model.datasets.mimic_tables import Admission

AFTER_CUTOFF = "after_cutoff"
BEFORE_WINDOW = "before_window"
OTHER_ADMISSION = "other_admission"
OUTSIDE_COHORT = "outside_cohort"
STORED_LATE = "stored_after_cutoff"
NO_TIME = "no_time"
NO_STORETIME = "no_storetime"


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which evidence for one admission is taken: (start, cutoff]."""

    admission: Admission
    start: datetime
    cutoff: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """The windows a row counts for, or the reason why it counts for none."""

    windows: tuple[Window, ...]
    reason: str = ""


class Windows:
    """All windows of a load, found by patient.

    Args:
        windows: one for each admission.
        patients: every patient of the data set, also those of no window.
    """

    def __init__(self, windows: Iterable[Window], patients: Collection[str]) -> None:
        self._patients = patients
        self._of: dict[str, list[Window]] = {}
        for window in windows:
            subject = window.admission.patient.subject_id
            self._of.setdefault(subject, []).append(window)
        for known in self._of.values():
            known.sort(key=lambda window: window.start)

    def subject(self, row: Row) -> str:
        """The patient of a row.

        Raises:
            DatasetFileError: no patient of this data set.
        """
        subject = row.key("subject_id")
        if subject not in self._patients:
            raise row.fault("subject_id", "is no patient of patients.csv")
        return subject

    def of(self, subject_id: str) -> Sequence[Window]:
        """The windows of one patient, earliest first."""
        return self._of.get(subject_id, ())

    def judge(
        self,
        subject_id: str,
        hadm_id: str | None,
        charted: datetime | None,
        stored: datetime | None,
    ) -> Verdict:
        """Where an event counts.

        An event counts for an admission when it was measured and stored within its
        window. A result that was measured before the cutoff and stored after it was
        not known at the cutoff; one without a storing time cannot show that it was.
        """
        known = self._of.get(subject_id)
        if not known:
            return Verdict((), OUTSIDE_COHORT)
        if charted is None:
            return Verdict((), NO_TIME)
        own = [w for w in known if hadm_id in (None, w.admission.hadm_id)]
        if not own:
            return Verdict((), OTHER_ADMISSION)
        open_by = [w for w in own if charted <= w.cutoff]
        if not open_by:
            return Verdict((), AFTER_CUTOFF)
        within = [w for w in open_by if w.start < charted]
        if not within:
            return Verdict((), BEFORE_WINDOW)
        if stored is None:
            return Verdict((), NO_STORETIME)
        known_by = tuple(w for w in within if stored <= w.cutoff)
        return Verdict(known_by, "" if known_by else STORED_LATE)

    def judge_day(self, subject_id: str, day: date | None, days: int) -> Verdict:
        """As :meth:`judge` for a row that has a date only.

        The day of the cutoff itself is left out: its values may be of the evening.
        """
        known = self._of.get(subject_id)
        if not known:
            return Verdict((), OUTSIDE_COHORT)
        if day is None:
            return Verdict((), NO_TIME)
        earlier = [w for w in known if day < w.cutoff.date()]
        if not earlier:
            return Verdict((), AFTER_CUTOFF)
        span = timedelta(days=days)
        within = tuple(w for w in earlier if w.cutoff.date() - day <= span)
        return Verdict(within, "" if within else BEFORE_WINDOW)
