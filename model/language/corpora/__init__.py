"""Readers of openly licensed text corpora in their original formats."""
