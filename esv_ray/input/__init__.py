"""Feature tables in: columns, checks, units."""
