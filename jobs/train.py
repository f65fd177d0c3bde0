"""Entry point for a cluster: run the training of a spec. ``python jobs/train.py SPEC [--set key=value]...``"""

import sys

from esv_ray.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
