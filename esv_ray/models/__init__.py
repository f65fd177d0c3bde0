"""Model bundles: load, save, import and train; and ESVs of sequences in memory."""
