"""Entry point for a cluster: run the extraction of a spec. ``python jobs/extract.py SPEC [--set key=value]...``"""

import sys

from esv_ray.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "extract")
    main()
