"""Migrations of the key database."""
