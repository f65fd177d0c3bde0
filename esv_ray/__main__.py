"""``python -m esv_ray`` is the command `esv`."""

from esv_ray.cli import main

if __name__ == "__main__":
    main()
