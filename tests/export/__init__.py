"""Exports of outputs."""
