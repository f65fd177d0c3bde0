"""Exact ESVs and Algorithm 1."""
