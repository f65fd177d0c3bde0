"""Estimates of what a job will take: time, memory, bytes."""
