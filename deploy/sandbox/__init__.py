"""The sandbox EHR: FHIR R4, DICOMweb, SMART and a chart page, on loopback only."""
