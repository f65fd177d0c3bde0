"""The mathematics: lattices, estimators, games, heads, attribution. torch and numpy only; no I/O, no Ray.

Terms: a video has n elements. A subsequence has a length, its number of elements: 1 to n. A scale s is the length that
the head f^s reads: 1 to n_max. `core.regression` and `core.adjusted` group what they sample by this length and call a
group a size.
"""
