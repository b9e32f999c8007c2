"""What can go wrong in the model package, by fault; every class has a safe code.

    ModelError
    ├── ConfigurationError          operator: a setting is missing or wrong
    │   ├── PayloadKeyError         operator: the payload key cannot be used
    │   ├── RemoteModelError        operator: a model named, not a folder on this disk
    │   ├── RunFolderError          operator: a run folder cannot be continued
    │   └── SeedRefusedError        caller: an evaluation on cases seen in training
    ├── DatasetError                operator: a folder of cases breaks its layout
    │   ├── CorpusError             operator: a text corpus breaks its format
    │   ├── DatasetFileError        operator: a file breaks its layout, at a line
    │   ├── DuplicateCaseError      operator: one case id on two lines
    │   ├── PatientLeakError        operator: one patient on two sides of a split
    │   └── PickleRefusedError      attack or damage: a pickle that wants to run code
    ├── CheckpointError             operator: the checkpoint folder cannot be used
    │   ├── CheckpointTamperedError attack or damage: a file differs from its digest
    │   └── EncoderWeightsError     operator: a local encoder folder does not fit
    ├── JobError                    the queue between web and worker
    │   ├── BrokerUnavailableError  upstream: the message was not sent, the job is kept
    │   ├── JobStoreUnavailableError upstream: the job database did not answer
    │   ├── JobTamperedError        attack or damage: a row does not decrypt
    │   ├── RecordCodecError        bad data: bytes that are no patient record
    │   ├── PayloadTooLargeError    bad data: a record larger than the limit
    │   └── UnknownJobError         caller: no such job, or it has expired
    └── InferenceError              the computation itself
        ├── DeviceUnavailableError  operator: the asked-for device is not there
        ├── DeviceMemoryError       operator: the device ran out of memory
        ├── UnknownLabelError       caller: a label the model does not have
        ├── ExplanationError        our fault: an explanation breaks its own rules
        └── NarrativeError          our fault: a sentence without, or against, evidence

``code`` is safe to log, to store in a job row and to show: it never holds patient data.
The text of an exception follows the same rule (threat TM-I2: patient data in logs).
"""

from __future__ import annotations


class ModelError(Exception):
    """Root of everything this package raises on purpose."""

    code = "model_error"


class ConfigurationError(ModelError):
    """A setting is missing or wrong; the process must not start."""

    code = "configuration"


class PayloadKeyError(ConfigurationError):
    """The payload key file is missing, too open, or does not hold a key."""

    code = "payload_key"


class SeedRefusedError(ConfigurationError):
    """The seed was used in training: its cases are not fresh."""

    code = "seed_refused"


class RemoteModelError(ConfigurationError):
    """A model name where a local folder must stand; nothing is ever downloaded."""

    code = "remote_model"


class RunFolderError(ConfigurationError):
    """A run folder is damaged, or holds a run with other settings."""

    code = "run_folder"


class CheckpointError(ModelError):
    """The checkpoint folder is incomplete or does not fit this code."""

    code = "checkpoint_invalid"


class CheckpointTamperedError(CheckpointError):
    """A checkpoint file differs from the digest in its manifest."""

    code = "checkpoint_tampered"


class EncoderWeightsError(CheckpointError):
    """Local encoder weights are missing, malformed, or of another architecture."""

    code = "encoder_weights"


class JobError(ModelError):
    """The queue between the web process and the worker."""

    code = "job_error"


class BrokerUnavailableError(JobError):
    """The message could not be sent in time; the job row stays and is sent again.

    Attributes:
        job_id: the job that is queued all the same, None when nothing was stored.
    """

    code = "broker_unavailable"

    def __init__(self, message: str, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobStoreUnavailableError(JobError):
    """The job database did not answer in time, or refused."""

    code = "job_store_unavailable"


class JobTamperedError(JobError):
    """A stored payload or result does not authenticate under its job and kind."""

    code = "job_tampered"


class RecordCodecError(JobError):
    """Bytes that are not an encoded patient record of a version we read."""

    code = "record_malformed"


class PayloadTooLargeError(JobError):
    """An encoded record larger than the configured limit."""

    code = "payload_too_large"


class UnknownJobError(JobError):
    """No such job, or its payload has expired."""

    code = "unknown_job"


class InferenceError(ModelError):
    """The prediction could not be computed."""

    code = "inference_failed"


class DeviceUnavailableError(InferenceError):
    """The configured device is not available on this machine."""

    code = "device_unavailable"


class DeviceMemoryError(InferenceError):
    """The device ran out of memory while it computed."""

    code = "out_of_memory"


class UnknownLabelError(InferenceError):
    """A label that this model does not estimate."""

    code = "unknown_label"


class ExplanationError(InferenceError):
    """An explanation that breaks its own rules; none is shown."""

    code = "explanation_failed"


class NarrativeError(InferenceError):
    """A sentence that names no evidence, or that its evidence contradicts."""

    code = "narrative_rejected"


class DatasetError(ModelError):
    """A folder of cases is not what its layout promises; names the row, no content."""

    code = "dataset"


class CorpusError(DatasetError):
    """A text corpus is not in its published format; names the place, no content."""

    code = "corpus"


class DatasetFileError(DatasetError):
    """A file of a data set is not what its layout promises.

    The message is built here from names alone, so that no caller can put the content
    of a cell into it.

    Attributes:
        file: name of the file below its data set's folder.
        line: physical line, 1 for the header, None where the file as a whole is meant.
        column: name of the column, None where the whole line is meant.
        reason: our own words.
    """

    code = "dataset_file"

    def __init__(
        self,
        file: str,
        reason: str,
        *,
        line: int | None = None,
        column: str | None = None,
    ) -> None:
        at = f" line {line}" if line is not None else ""
        named = f", column {column}" if column is not None else ""
        super().__init__(f"{file}{at}{named}: {reason}")
        self.file, self.line, self.column, self.reason = file, line, column, reason


class DuplicateCaseError(DatasetError):
    """One case id stands on two lines: figures would count a patient twice."""

    code = "duplicate_case"


class PatientLeakError(DatasetError):
    """One patient is in two splits: the test would be on what was trained on."""

    code = "patient_leak"


class PickleRefusedError(DatasetError):
    """A pickle names a class or a function: reading it would run foreign code."""

    code = "pickle_refused"
