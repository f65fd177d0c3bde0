"""Element Shapley Values of video models."""
