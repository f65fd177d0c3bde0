"""Outputs in the formats of other programs: one module a format, and what they share."""
