"""DICOM in, pixels out: pure, and run in a limited child process."""
