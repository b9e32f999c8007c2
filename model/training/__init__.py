"""Staged training, calibration and honest evaluation."""
