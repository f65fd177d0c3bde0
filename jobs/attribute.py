"""Entry point for a cluster: run the job of a spec. ``python jobs/attribute.py SPEC [--set key=value]...``"""

import sys

from esv_ray.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "attribute")
    main()
