"""Similarity of models, one file per method: what is computed once per model, and what per pair."""
