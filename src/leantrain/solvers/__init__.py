"""Algorithms that methods choose by: matching pursuit, clustering, ranking."""
