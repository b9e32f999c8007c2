"""Alembic migrations of the two databases, run by ``trivium-audit init``."""
