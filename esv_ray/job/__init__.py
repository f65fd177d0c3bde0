"""Run units of any kind of work on Ray, or in this process: scheduling, retries, bisection, progress."""
