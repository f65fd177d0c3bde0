"""How fast the engine is here: ESVs of random videos at the paper's dimensions, against the bare products.

Times are medians over repeats in one process; compare ratios of one run, not seconds of different machines.
"""
