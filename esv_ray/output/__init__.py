"""Attribution tables out: schemas, commits, run.json."""
