"""What reaches :mod:`fhir_adapters.assemble`: resources and image outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fhir_adapters.patient_record import ChestImage


@dataclass(frozen=True, slots=True)
class Received:
    """One resource as plain JSON (``parse_float=Decimal``) and where it came from.

    ``origin`` is "prefetch", "fhir" or "folder"; ``search_mode`` is the entry's
    ``search.mode`` when the resource came in a searchset.
    """

    resource: dict[str, Any]
    origin: str
    search_mode: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ImageOutcome:
    """A decoded image, or the reason code why an existing image gave none.

    ``reference`` is "ImagingStudy/<id>#<SOPInstanceUID>", without the part from "#"
    while no instance was chosen.
    """

    reference: str
    image: ChestImage | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        """An outcome is either an image or a reason: our caller's bug otherwise."""
        if (self.image is None) == (not self.reason):
            raise ValueError("an image outcome is an image or a reason")

    @classmethod
    def decoded(cls, image: ChestImage) -> ImageOutcome:
        """The outcome of a successful decode."""
        return cls(image.provenance.reference, image=image)

    @classmethod
    def failed(cls, reference: str, reason: str) -> ImageOutcome:
        """The outcome of an image that exists and could not be used."""
        return cls(reference, reason=reason or "image_unreadable")
