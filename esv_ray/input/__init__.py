"""Feature tables: files, footers, units of work, and the checked rows of a unit."""
