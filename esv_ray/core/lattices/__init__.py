"""Sets of subsequences, full or sampled by Algorithm 1."""
