"""Videos of a report as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from esv_ray.analysis.figures.wording import ordinal
from esv_ray.report.content import ShownVideo
from esv_ray.report.drawings import bars_svg, esv_scale, shown_classes, waterfall_svg
from esv_ray.report.tables import prose, text_of, with_minus
from esv_ray.report.thumbnails import MOST_ALIGNED, pictured
from esv_ray.show.geometry import Scale
from esv_ray.show.html import values_table
from esv_ray.show.text import standard_error_note
from esv_ray.show.video import AttributedVideo, ClassEsvs

_MOST_NAME = 300  # characters of a class name
_MOST_BESIDE = 32  # elements whose bars fit on half of a page

SIDES = ("A, this output", "B, the other output")
"""Names of the two outputs of a comparison, as its sentences call them."""


def key_html(shown: Sequence[ShownVideo]) -> str:
    """Return what colors and bands mean, for videos that stand together."""
    videos = [video for each in shown for video in (each.video, each.before) if video is not None]
    errors = any(video.has_errors for video in videos)
    band = '<span><svg aria-hidden="true"><rect class="e" x="4" width="6" height="12"/></svg>'
    return (
        '<p class="key">'
        '<span><svg aria-hidden="true"><rect class="s" width="14" height="12"/></svg>supports the class</span>'
        '<span><svg aria-hidden="true"><rect class="d" width="14" height="12"/></svg>distracts from it</span>'
        + (f"{band}{standard_error_note('&plusmn;')}</span>" if errors else "")
        + "<span>numbers below the bars: frames</span></p>"
    )


def video_html(shown: ShownVideo, anchor: str, level: int) -> str:
    """Return a video with its drawings and values.

    Args:
        shown: the video.
        anchor: id of its heading.
        level: of its heading.
    """
    video = shown.video
    if shown.before is None:
        panels = _panels(shown)
        values = _values(video, "")
    else:
        scale = esv_scale([shown.before, video])
        sides = _side(SIDES[0], video, scale) + _side(SIDES[1], shown.before, scale)
        panels = f'<div class="panels two">{sides}</div>'
        values = _values(video, SIDES[0]) + _values(shown.before, SIDES[1])
    verdict = _verdict(video) if shown.before is None else ""  # else each side has its own
    why = _why(shown)
    also = f'<p class="why">{text_of(why)}</p>' if why else ""
    return (
        f'<article class="video" data-n="{video.n}" aria-labelledby="{anchor}"><header>'
        f'<h{level} class="id" id="{anchor}"><bdi>{text_of(video.video_id)}</bdi></h{level}>{verdict}'
        f"{also}</header>{panels}<details><summary>Values</summary>{values}</details></article>"
    )


def _why(shown: ShownVideo) -> str:
    """Return the places of a video in rankings; without them the reasons that its group does not say."""
    first, *others = (
        f"{ordinal(shown.places[reason])} {reason}" if reason in shown.places else reason for reason in shown.reasons
    )
    also = f"also {', '.join(others)}" if others else ""
    return "; ".join(filter(None, (first if shown.places else "", also)))


def _values(video: AttributedVideo, side: str) -> str:
    """Return the values as a table, below the name of its side if there are two."""
    name = f"Values of {text_of(video.video_id)}{side and f', {side}'}"
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{name}" data-side="{side}">'
    heading = f'<p class="side">{side}</p>' if side else ""
    return f"{heading}{frame}{values_table(video)}</div>"


def _verdict(video: AttributedVideo) -> str:
    """Return whether the prediction is right, in words and color."""
    if video.label is None:
        return '<p class="verdict">No label</p>'
    right = video.label == video.predicted
    kind, word = ("good", "\N{CHECK MARK} Correct") if right else ("bad", "\N{MULTIPLICATION X} Misclassified")
    return f'<p class="verdict {kind}">{word}</p>'


def _title(video: AttributedVideo, each: ClassEsvs) -> str:
    """Return the name of a class, with its id if another class of the video has the same name."""
    return video.short_titles(_MOST_NAME)[each.class_id]


def _role(video: AttributedVideo, each: ClassEsvs) -> str:
    roles = [name for name, of in (("Label", video.label), ("Predicted", video.predicted)) if of == each.class_id]
    return " and ".join(roles).capitalize() or "Class"


def _panels(shown: ShownVideo) -> str:
    """Return bars and waterfall of each class: beside each other if both fit on a page, otherwise below each other."""
    video = shown.video
    classes = shown_classes(video)
    beside = len(classes) == 1 and not any(shown.thumbnails) and video.n <= _MOST_BESIDE
    below = len(classes) == 1 and not beside
    drawn = _bars(video, esv_scale([video]), _film(shown), half=beside)
    drawn += "".join(_waterfall(video, each, half=not below) for each in classes)
    return f'<div class="panels{"" if below else " two"}">{drawn}</div>'


def _caption(video: AttributedVideo, each: ClassEsvs) -> str:
    role, title = text_of(_role(video, each)), text_of(_title(video, each))
    equation = prose(each.equation(video.unit).replace(" - ", " \N{MINUS SIGN} "))
    equation = equation.replace("\N{MINUS SIGN} ", "\N{MINUS SIGN}\N{NO-BREAK SPACE}")  # a sign stays with its number
    return f"<figcaption>{role} <b><bdi>{title}</bdi></b><small>{equation}</small></figcaption>"


def _bars(video: AttributedVideo, scale: Scale, film: str, *, half: bool = False) -> str:
    """Return the bars of each class; pictures stand below the first."""
    parts = []
    for each in shown_classes(video):
        drawn = bars_svg(video, each, scale, with_minus(_bars_alt(video, each)), half=half)
        across = "" if half else " across"
        parts.append(f'<figure class="panel{across}">{_caption(video, each)}{drawn}{film}</figure>')
        film = ""
    return "".join(parts)


def _bars_alt(video: AttributedVideo, each: ClassEsvs) -> str:
    if not video.n:
        return f"No elements, {_title(video, each)}"
    best, worst = int(each.esv.argmax()), int(each.esv.argmin())
    title = _title(video, each)
    count = int((each.esv > 0).sum())
    return (
        f"ESVs for {title}: {count} of {video.n} elements support it; highest {each.esv[best]:+.3f} at frame "
        f"{video.frame_index[best]}, lowest {each.esv[worst]:+.3f} at frame {video.frame_index[worst]}"
    )


def _waterfall(video: AttributedVideo, each: ClassEsvs, *, half: bool) -> str:
    words = with_minus(f"from prior {each.prior:.3f} to score {each.score:.3f}")
    alt = f"Waterfall for {_title(video, each)} in time order, {words}"
    drawn = waterfall_svg(video, each, alt, half=half)
    caption = f"{text_of(_role(video, each))} <b>in time order</b><small>{words}</small>"
    return f'<figure class="panel"><figcaption>{caption}</figcaption>{drawn}</figure>'


def _side(name: str, video: AttributedVideo, scale: Scale) -> str:
    return f'<div><p class="side">{text_of(name)}</p>{_verdict(video)}{_bars(video, scale, "", half=True)}</div>'


def _film(shown: ShownVideo) -> str:
    """Return the pictures: below their bars, or for long sequences those of the most influential elements."""
    if not any(shown.thumbnails):
        return ""
    video = shown.video
    some = " some" if video.n > MOST_ALIGNED else ""
    return f'<ol class="film{some}">{"".join(_picture(shown, place, bool(some)) for place in pictured(video))}</ol>'


def _picture(shown: ShownVideo, place: int, named: bool) -> str:
    frame = int(shown.video.frame_index[place])
    url = shown.thumbnails[place]
    picture = "" if not url else f'<img alt="frame {frame}" src="{text_of(url)}">'
    name = f"<small>{frame}</small>" if named else ""
    return f'<li value="{place}">{picture}{name}</li>'
