"""Read pickles and torch checkpoints without running code: every name in a pickle that is no known value is inert."""

from esv_ray.unpickling.files import unpickle
from esv_ray.unpickling.inert import Inert

__all__ = ["Inert", "unpickle"]
