"""Other attribution methods, on the score of the same sequence by the same estimator: gradients, occlusion, random."""
