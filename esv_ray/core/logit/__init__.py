"""ESVs in logits."""
