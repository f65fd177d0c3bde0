"""The HTML report of an output: one file that needs no network."""
