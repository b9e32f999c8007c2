"""FHIR resources to parts of a record, one module a resource; pure."""
