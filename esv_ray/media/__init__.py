"""Pictures of the elements of videos: the one place that says which picture belongs to element i of video v.

`open_media` finds out what a location holds; `esv show`, `esv report` and `esv dashboard` then ask for frames by their
numbers, and the dashboard for the frames around them and for the files of videos.
"""

from esv_ray.media.decoded import Film
from esv_ray.media.media import Media, open_media
from esv_ray.media.pictures import Picture

__all__ = ["Film", "Media", "Picture", "open_media"]
