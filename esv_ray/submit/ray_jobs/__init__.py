"""Submission to a Ray cluster, through Ray's job server.

`client` connects, `preflight` runs on the cluster and checks it, `submit` starts a job after that check, `jobs` finds,
stops and waits for jobs, and `logs` prints their logs.
"""
