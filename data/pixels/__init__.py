"""Pixels of every other format, and the last steps that all formats share."""
