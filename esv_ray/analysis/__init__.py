"""Analysis of attribution tables."""
