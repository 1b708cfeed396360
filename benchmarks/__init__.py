"""Measurements that print JSON: a smoke run of the whole path, and side-by-side comparisons.

Run from the repository's root as `python -m benchmarks.<name>`; not part of the installed package.
"""
