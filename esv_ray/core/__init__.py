"""The mathematics: lattices, estimators, games, heads, attribution. torch and numpy only; no I/O, no Ray.

Terms: a sequence has n elements. A subsequence has a length s, also called its scale, from 1 to n; the heads f^s have
scales up to n_max. `core.regression` and `core.adjusted` group their samples by length, and call a group a size.
"""
