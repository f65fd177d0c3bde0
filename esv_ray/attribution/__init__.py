"""One kind of work: units of ESVs."""
