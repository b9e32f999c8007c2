"""Readers of folders on disk; each yields :class:`PatientRecord`, nothing invented."""
