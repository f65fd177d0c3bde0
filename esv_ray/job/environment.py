"""The environment variable that holds the id of a driver's submission."""

SUBMISSION = "ESV_SUBMISSION"
"""Holds the id of the submission that a driver belongs to."""
