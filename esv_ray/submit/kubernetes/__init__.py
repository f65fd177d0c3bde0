"""Submission to Kubernetes: manifests of RayJobs, and kubectl."""
