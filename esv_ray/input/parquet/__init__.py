"""A guarded reader of Parquet: footers, pages and row groups are checked before Arrow decodes them."""
