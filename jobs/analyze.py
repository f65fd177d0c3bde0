"""Entry point for a cluster: summarize an output. ``python jobs/analyze.py OUTPUT [--json]``"""

import sys

from esv_ray.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "analyze")
    main()
