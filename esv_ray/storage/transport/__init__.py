"""Requests to stores: bounds, retries, and what their errors mean."""
