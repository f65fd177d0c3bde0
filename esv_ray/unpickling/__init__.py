"""Read pickles and torch checkpoints without running code: every name that is not a known value is inert."""

from esv_ray.unpickling.files import unpickle
from esv_ray.unpickling.inert import Inert

__all__ = ["Inert", "unpickle"]
