"""Importers of features, one module a format."""
