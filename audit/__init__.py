"""Append-only, encrypted, tamper-evident audit log; knows nothing of the rest."""
