"""FHIR and DICOM in, one :class:`PatientRecord` out; no torch, flask, celery or sql."""
