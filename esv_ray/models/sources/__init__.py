"""Importers of models, one module a published layout."""
