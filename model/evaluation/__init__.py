"""Measuring a checkpoint: metrics, shifts, subgroups, probes and the report."""
