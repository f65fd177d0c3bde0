"""Submission of jobs to a remote cluster: to Ray's job server (`ray_jobs`) or to Kubernetes (`kubernetes`)."""
