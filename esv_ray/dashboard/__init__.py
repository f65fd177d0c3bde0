"""The dashboard of an output: a server of its tables, and pages that explore them."""
