"""The worker: tensors, calibrated predictions, abstentions, the Celery task."""
