"""One kind of work: training the heads of a multi-scale model; a unit is a head."""
