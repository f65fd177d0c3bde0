"""Pictures of the elements of videos: the one place that says which picture belongs to element i of video v.

`open_media` finds out what a location holds; `esv show` and `esv report` then ask for frames by their numbers.
"""

from esv_ray.media.media import Media, open_media

__all__ = ["Media", "open_media"]
