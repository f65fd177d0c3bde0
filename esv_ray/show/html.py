"""An attributed video as HTML without figures' libraries: a small bar picture for notebooks."""

from __future__ import annotations

from html import escape

from esv_ray.show.geometry import bars, scale_of
from esv_ray.show.text import shortened, standard_error_note
from esv_ray.show.theme import DISTRACTING, PAGE_FONT, SUPPORTING
from esv_ray.show.video import AttributedVideo, ClassEsvs

_WIDTH, _HEIGHT = 420, 90
_MOST_NAME = 60


def bars_html(video: AttributedVideo) -> str:
    """Return a fragment with an inline SVG per class: a bar per element. Readable on light and on dark pages."""
    titles = video.short_titles(_MOST_NAME)
    parts = [_class_html(video, each, titles[each.class_id]) for each in video.classes]
    return f'<div style="font-family: {PAGE_FONT}; font-size: 13px; line-height: 1.4">{"".join(parts)}</div>'


def _class_html(video: AttributedVideo, each: ClassEsvs, title: str) -> str:
    name = f"<b>{escape(shortened(video.video_id, _MOST_NAME))}</b>: " if video.video_id else ""
    heading = f"{name}{escape(title)}, {video.unit} {each.score:.3f}, prior {each.prior:.3f}"
    return f"<div>{heading}</div>{_svg(video, each)}"


def _svg(video: AttributedVideo, each: ClassEsvs) -> str:
    """Return bars in the page's text color for the axis, with a tooltip per element."""
    scale = scale_of([each.esv], _HEIGHT)
    step, zero = _WIDTH / max(1, video.n), scale.y(0.0)
    drawn = []
    for place, (value, box) in enumerate(zip(each.esv.tolist(), bars(each.esv, scale), strict=True)):
        color = SUPPORTING if box.supports else DISTRACTING
        tooltip = f"<title>element {place}, frame {int(video.frame_index[place])}: {value:+.4f}</title>"
        drawn.append(
            f'<rect x="{place * step + step * 0.1:.1f}" y="{box.y:.1f}" width="{step * 0.8:.1f}" '
            f'height="{box.height:.1f}" fill="{color}">{tooltip}</rect>'
        )
    axis = f'<line x1="0" x2="{_WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="currentColor" stroke-width="0.75"/>'
    label = f"ESVs of {video.n} elements, {scale.low:+.3g} to {scale.high:+.3g}"
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" style="max-width: 100%">{"".join(drawn)}{axis}</svg>'
    )


def values_table(video: AttributedVideo) -> str:
    """Return the ESVs as a table: a row per element, a column per class."""
    titles = video.short_titles(_MOST_NAME)
    head = "".join(f'<th scope="col">{escape(titles[each.class_id])}</th>' for each in video.classes)
    difference = video.difference
    last = "" if difference is None else '<th scope="col">difference</th>'
    rows = []
    for place, frame in enumerate(video.frame_index.tolist()):
        cells = [_value(each.esv[place], None if each.stderr is None else each.stderr[place]) for each in video.classes]
        if difference is not None:
            error = video.difference_stderr
            cells.append(_value(difference[place], None if error is None else error[place]))
        rows.append(f"<tr><td>{place}</td><td>{frame}</td>{''.join(cells)}</tr>")
    names = f'<th scope="col">element</th><th scope="col">frame</th>{head}{last}'
    note = f"<p>{standard_error_note('&plusmn;')}</p>" if video.has_errors else ""
    return f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table>{note}"


def _value(value: float, error: float | None) -> str:
    return f"<td>{value:+.4f}{'' if error is None else f' &plusmn; {error:.4f}'}</td>"
