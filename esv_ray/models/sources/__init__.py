"""Importers of models, one module per published layout."""
