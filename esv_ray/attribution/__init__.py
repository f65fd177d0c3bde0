"""Attribution: the kind of work that computes units of ESVs (`job.work`)."""
