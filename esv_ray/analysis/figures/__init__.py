"""Figures of an analysis: one module per facet, each a function of the facet's table."""
