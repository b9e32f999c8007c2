"""The web process: a CDS Hooks service and the clinician's SMART app."""
