"""Reason codes in words that a clinician can read.

A code that is not listed here is shown as its own words, underscores as spaces: a new
code may read clumsily, but it is never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping

from fhir_adapters.patient_record import Modality

MODALITY: Mapping[str, str] = {
    Modality.IMAGE.value: "Image",
    Modality.TEXT.value: "Notes and reports",
    Modality.VALUES.value: "Measurements",
}
STEP: Mapping[str, str] = {
    "patient": "the patient's identity",
    "observations": "measurements",
    "reports": "diagnostic reports",
    "documents": "clinical documents",
    "imaging": "the list of imaging studies",
    "image": "the radiograph",
    "endpoints": "the address of the image archive",
    "model": "the model",
    "queue": "the assessment queue, which does not answer at the moment",
}
REASON: Mapping[str, str] = {
    # Whole modalities.
    "none_received": "there is none in the chart",
    "none_usable": "none of what is in the chart can be used",
    "image_not_retrieved": "the image could not be retrieved",
    "not_frontal": "there is no frontal view",
    "modality_not_supported": "this model reads radiographs, not other kinds of image",
    "prefetch_failed": "the EHR reported that its query failed",
    "prefetch_malformed": "what the EHR sent could not be read",
    "prefetch_paged": "the EHR sent the first page only",
    "page_cap": "more pages than are read",
    "upstream_timeout": "the server did not answer in time",
    "upstream_error": "the server answered with an error",
    "upstream_failed": "the server answered with an error",
    "operation_outcome": "the server answered with an error",
    "connection_failed": "the server could not be reached",
    "connection_broken": "the connection was lost",
    "unauthorized": "the access token was not accepted",
    "forbidden": "the access token does not allow it",
    "not_found": "the server does not have it",
    "rate_limited": "the server asked us to wait",
    "origin_not_allowed": "its server is not registered",
    "outside_base": "its address is outside of the EHR's server",
    "outbound_refused": "its address is not allowed",
    "answer_too_large": "larger than allowed",
    "resource_too_large": "larger than allowed",
    "malformed_resource": "could not be read",
    # Images.
    "blank_image": "the image shows nothing",
    "inverted_image": "the image's grey scale is inverted",
    "noise_image": "the image shows noise",
    "wrong_body_part": "the image shows another part of the body",
    "no_frontal": "there is no frontal view",
    "image_unreadable": "the image could not be read",
    "not_dicom": "the image is no DICOM file",
    "dicom_malformed": "the image is damaged",
    "pixel_data_missing": "the image holds no pixels",
    "pixel_data_short": "the image is not complete",
    "transfer_syntax_not_supported": "the image's compression is not supported",
    "photometric_not_supported": "the image's colour model is not supported",
    "decode_timeout": "reading the image took too long",
    "decode_memory_limit": "reading the image needed too much memory",
    "decoder_crashed": "reading the image failed",
    "decoder_busy": "too many images are being read",
    "uid_mismatch": "the image is not the one that the chart names",
    "view_unknown": "the image does not say which view it is",
    "no_endpoint": "the chart does not say where the image is",
    # Single items.
    "other_patient": "belongs to another patient",
    "wrong_patient": "belongs to another patient",
    "no_subject": "does not say whose it is",
    "subject_unresolved": "does not say clearly whose it is",
    "unknown_unit": "unit not known for this measurement",
    "missing_unit": "no unit",
    "unit_conflict": "two units that contradict each other",
    "implausible_value": "value outside what is possible",
    "impossible_value": "value outside what is possible",
    "doubtful_unit": "value looks like another unit's",
    "foreign_text": "sentences unlike those that the model has learnt from",
    "unmapped_code": "measurement that the model does not use",
    "conflicting_codes": "codes that contradict each other",
    "no_value": "no value",
    "text_value": "value is a text",
    "data_absent": "marked as not available",
    "entered_in_error": "marked as entered in error",
    "after_cutoff": "later than this assessment",
    "no_timestamp": "no time",
    "no_time_zone": "time without a zone",
    "future_timestamp": "time lies in the future",
    "report_of_scored_image": "report of the very image that is assessed",
    "radiology_report": "report of the very image that is assessed",
    "no_text": "no text",
    "content_type": "kind of document that is not read",
    "attachment_not_fetched": "text not sent along",
    "attachment_too_large": "larger than allowed",
    "attachment_corrupt": "text is damaged",
    "unused_type": "kind of resource that is not used",
}
ABSTENTION: Mapping[str, str] = {
    "no_modality": "there is no usable evidence in any of the three modalities",
    "unreadable_only": "what was received could not be read",
    "blank_image": "the only evidence is an image that shows nothing",
    "inverted_image": "the only evidence is an image with an inverted grey scale",
    "noise_image": "the only evidence is an image that shows noise",
    "wrong_body_part": "the only evidence is an image of another part of the body",
    "lateral_only": "the only evidence is a lateral image",
    "impossible_value": "a measured value that no patient can have was left out",
    "doubtful_unit": "a measured value that looks like another unit's was left out",
    "foreign_text": "sentences unlike those that the model has learnt from were not "
    "read",
    "ood_image": "the image is unlike those that the model has learnt from",
    "ood_text": "the text is unlike what the model has learnt from",
    "ood_labs": "the measurements are unlike those that the model has learnt from",
    "conformal_ambiguous": "the evidence is compatible with both answers",
    "modality_conflict": "image, text and measurements point in different directions",
    "stale_data": "the evidence is too old",
}
FAILURE: Mapping[str, str] = {
    "busy": "the service is too busy; nothing was read",
    "broker_unavailable": "the assessment queue does not answer",
    "job_store_unavailable": "the assessment store does not answer",
    "payload_too_large": "the evidence is larger than allowed",
    "job_tampered": "the stored result could not be verified",
    "unknown_job": "the assessment has expired",
    "gather_timeout": "the evidence could not be collected in time",
}


def words(code: str, *tables: Mapping[str, str]) -> str:
    """Plain words for ``code`` from the first table that has it."""
    for table in tables:
        if code in table:
            return table[code]
    return code.replace("_", " ").replace("-", " ")
