"""Model bundles: load, save, import, train; and ESVs of sequences in memory."""
