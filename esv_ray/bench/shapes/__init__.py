"""Rendered videos of moving shapes, whose class is the order of the frames of a short event (`esv demo shapes`)."""
