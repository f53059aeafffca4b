"""Figures: arrays in, SVG text out."""
