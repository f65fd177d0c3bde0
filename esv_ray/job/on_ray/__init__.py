"""Ray itself: its runtime, the actors of a run, the capacity of a cluster's nodes, metrics."""
