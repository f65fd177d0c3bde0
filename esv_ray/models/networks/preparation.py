"""How a network prepares its images: the key `extraction` of its bundle."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictInt

_Side = Annotated[StrictInt, Field(ge=1, le=4096)]
_Deviation = Annotated[FiniteFloat, Field(gt=0)]


class Preparation(BaseModel):
    """The images of a network: (value / 255 - mean) / std of each channel enters it.

    Attributes:
        size: height and width.
        short_side: pixels of the short side of the frames from whose center the images are cut; None: not known.
        color: order of the channels.
        mean, std: of each channel, for values 0..1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[_Side, _Side]
    short_side: _Side | None = None
    color: Literal["RGB"] = "RGB"
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[_Deviation, _Deviation, _Deviation]
