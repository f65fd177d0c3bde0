"""Environment variables of a driver."""

SUBMISSION = "ESV_SUBMISSION"
"""Holds the id of the submission that a driver belongs to."""
