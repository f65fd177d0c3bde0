"""Attribution tables: schemas, commits, run.json."""
