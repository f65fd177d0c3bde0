"""The mathematics: lattices, estimators, games, heads, attribution. torch and numpy only; no I/O, no Ray."""
