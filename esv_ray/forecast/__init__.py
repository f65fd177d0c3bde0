"""What a job will take: time, memory, bytes."""
