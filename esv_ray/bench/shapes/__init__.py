"""Rendered videos of moving shapes (`esv demo shapes`): the class depends on the order of the frames of an event."""
