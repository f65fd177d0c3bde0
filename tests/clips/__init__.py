"""From clips to their pictures."""
