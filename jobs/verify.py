"""Entry point of a cluster: check that an output is whole. ``python jobs/verify.py OUTPUT [--repair]``"""

import sys

from esv_ray.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "verify")
    main()
