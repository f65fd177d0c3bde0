"""Benchmark of the engine: ESVs of random videos at the paper's dimensions, relative to the bare matrix products.

Times are medians over repeats in one process; compare ratios of one run, not seconds of different machines.
"""
