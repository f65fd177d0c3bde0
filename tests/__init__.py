"""Tests of esv_ray."""

import os
import sys

# Otherwise every process of the tests compiles this project again, and rewrites the asserts of all tests (17 s).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
