"""From videos to a feature table: one kind of work of a job (`job.work`)."""
