"""Run the training of a spec; an entry point for clusters. ``python jobs/train.py SPEC [--set key=value]...``"""

import sys

from esv_ray.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
