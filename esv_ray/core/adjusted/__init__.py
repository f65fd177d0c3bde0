"""The adjusted estimator."""
