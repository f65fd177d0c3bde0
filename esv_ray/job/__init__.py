"""Running units of any work on Ray, or in this process: scheduling, retries, bisection, progress."""
