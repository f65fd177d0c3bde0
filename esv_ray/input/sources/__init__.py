"""Importers of features: one module per format."""
