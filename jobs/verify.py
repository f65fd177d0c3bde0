"""Entry point for a cluster: check an output. ``python jobs/verify.py OUTPUT [--repair]``"""

import sys

from esv_ray.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "verify")
    main()
