"""The tables of an analysis, one module per facet: its queries and its page."""
