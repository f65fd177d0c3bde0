"""Gaussian-process regression on interactions: designs, surrogates, operators."""
