"""Networks of images of the library `transformers`, as games of elements that may be left out."""
