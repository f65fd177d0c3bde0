"""Verification and repair of an output."""
