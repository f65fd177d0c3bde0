"""Characteristic functions: models that give subsequences values."""
