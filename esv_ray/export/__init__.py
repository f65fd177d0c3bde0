"""Outputs in the formats of other programs: one module per format, and what they share."""
