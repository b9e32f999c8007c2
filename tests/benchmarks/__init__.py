"""Benchmarks: measured by ``make bench``, never by a timed test.

Each module ``bench_*.py`` prints a JSON list of entries with ``--json``:
``{"name", "value", "unit", "bar", "holds", "command"}``. Absolute times on shared
machines are noisy, so bars are ratios within one run and values are medians.
"""
