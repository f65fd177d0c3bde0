"""Entry point of a cluster: attribute as the spec says. ``python jobs/attribute.py SPEC [--set key=value]...``"""

import sys

from esv_ray.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "attribute")
    main()
