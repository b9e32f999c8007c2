"""What can go wrong in the sandbox EHR.

::

    SandboxError
    ├── StoreError               the store refuses a resource or an instance
    ├── ImportFolderError        a folder for import or load is not as documented
    ├── RequestError(status)     the caller of our API sent something we refuse
    └── CdsCallError             the CDS service could not be called at all
"""

from __future__ import annotations


class SandboxError(Exception):
    """Root of all errors of the sandbox EHR."""


class StoreError(SandboxError):
    """A resource or DICOM instance that cannot be stored as it is."""


class ImportFolderError(SandboxError):
    """A source folder or file that does not have the documented layout."""


class RequestError(SandboxError):
    """A request that is refused.

    Attributes:
        status: HTTP status of the answer.
        code: the OperationOutcome issue code (FHIR value set ``issue-type``).
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class CdsCallError(SandboxError):
    """The CDS service gave no usable answer (refused, timed out, not JSON)."""
