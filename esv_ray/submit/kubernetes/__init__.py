"""Submission to Kubernetes: the manifests of a job's objects, and kubectl."""
