"""Why the model said it: attributions bound to evidence, and told in sentences."""
