"""Migrations of the evidence database."""
