"""Submission to Ray's job server."""
