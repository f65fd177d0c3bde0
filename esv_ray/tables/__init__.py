"""Tables over pyarrow and fsspec: features in, attributions out; units, create-only commit, manifest."""
