"""An attributed video as a figure: a panel per class, a bar per element, thumbnails below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from esv_ray.errors import SpecError
from esv_ray.show.text import shortened, standard_error_note
from esv_ray.show.theme import LIGHT, Theme, vega_config
from esv_ray.show.video import AttributedVideo, FloatArray

if TYPE_CHECKING:
    import altair

_LEAST_WIDTH, _ELEMENT_WIDTH, _MOST_WIDTH = 440, 44, 1100
_PANEL_HEIGHT = 130
_MOST_NAME = 80
_MOST_ID = 60
_NOTE_WIDTH = 80  # characters of a line below the title, which fit on the narrowest figure
HALO = "halo"
"""Name of a layer of texts whose outlines, in the color of the page, lie below the letters in an SVG."""


def check_figures() -> None:
    """Check that the libraries of figures are installed.

    Raises:
        SpecError: one is not.
    """
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise SpecError(f"figures need {error.name}, which is not installed: pip install 'esv-ray[figures]'") from None


def video_chart(
    video: AttributedVideo, *, thumbnails: Sequence[str | None] = (), theme: Theme = LIGHT
) -> altair.VConcatChart:
    """Return the figure of a video.

    Args:
        video: the video.
        thumbnails: data URLs of the elements' pictures, below the panels; none: no pictures.
        theme: colors.

    Raises:
        SpecError: altair is not installed.
    """
    check_figures()
    import altair

    titles = video.short_titles(_MOST_NAME)
    # Vega-Lite gives charts with a common scale one height, and the row of pictures is lower.
    domain = _domain(video) if any(thumbnails) else None
    panels = [
        _panel(
            video,
            each.esv,
            each.stderr,
            title=titles[each.class_id] + video.roles(each),
            subtitle=each.equation(video.unit),
            theme=theme,
            domain=domain,
        )
        for each in video.classes
    ]
    difference = video.difference
    if difference is not None:
        worst = video.most_misleading
        assert worst is not None
        panels.append(
            _panel(
                video,
                difference,
                video.difference_stderr,
                title="Difference: label minus predicted class",
                subtitle=[
                    "blue: toward the label, orange: toward the predicted class",
                    f"most misleading: frame {video.frame_index[worst]}",
                ],
                theme=theme,
                domain=domain,
            )
        )
    if any(thumbnails):
        panels.append(_pictures(video, thumbnails))
    legend = "Element Shapley Values (ESV): blue supports the class, orange distracts from it"
    subtitle = [f"{video.n} elements; {video.outcome}", legend]
    if video.has_errors:
        subtitle += textwrap.wrap(standard_error_note("Lines"), _NOTE_WIDTH)
    heading = {"text": shortened(video.video_id, _MOST_ID), "subtitle": subtitle, "offset": 18}
    chart = altair.vconcat(*panels, title=altair.TitleParams(**heading), spacing=18)
    return chart.configure(**vega_config(theme)).resolve_scale(
        x="shared", y="shared" if domain is None else "independent"
    )


def picture_of(chart: altair.TopLevelMixin, kind: str) -> bytes:
    """Return a figure as a file. In an SVG, its description is what screen readers read.

    Args:
        chart: the figure.
        kind: `png` or `svg`.
    """
    import vl_convert

    spec = chart.to_dict(validate=False)  # validation takes longer than drawing; tests validate
    if kind == "png":
        return bytes(vl_convert.vegalite_to_png(spec, scale=2))
    svg = str(vl_convert.vegalite_to_svg(spec))
    if description := spec.get("description"):
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
    # Vega has no name for it, and a second mark for the outlines would double the time: it measures each text.
    outlined = f'<g class="mark-text role-mark {HALO}_'
    return svg.replace(outlined, f'<g paint-order="stroke" stroke-linejoin="round" {outlined[3:]}').encode()


def png_of(svg: bytes) -> bytes:
    """Return a figure that `picture_of` drew as SVG as PNG, of twice as many pixels each way."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg.decode(), scale=2))


def _width(video: AttributedVideo) -> int:
    return max(_LEAST_WIDTH, min(_MOST_WIDTH, _ELEMENT_WIDTH * video.n))


def _domain(video: AttributedVideo) -> tuple[float, float]:
    """Return the least and the largest value that any panel of a video shows; 0 is between them."""
    shown = [(each.esv, each.stderr) for each in video.classes]
    if video.difference is not None:
        shown.append((video.difference, video.difference_stderr))
    spreads = [(values, 0.0 if stderr is None else stderr) for values, stderr in shown]
    low = min(float((values - spread).min(initial=0.0)) for values, spread in spreads)
    high = max(float((values + spread).max(initial=0.0)) for values, spread in spreads)
    return (low, high) if low < high else (0.0, 1.0)


def _panel(
    video: AttributedVideo,
    values: FloatArray,
    stderr: FloatArray | None,
    *,
    title: str,
    subtitle: str | list[str],
    theme: Theme,
    domain: tuple[float, float] | None,
) -> altair.LayerChart:
    """Return bars of values of the elements, with standard errors."""
    import altair

    chart = element_bars(
        list(enumerate(video.frame_index.tolist())),
        values.tolist(),
        None if stderr is None else stderr.tolist(),
        title=f"ESV ({video.unit})",
        width=_width(video),
        numbered=video.n <= _MOST_WIDTH // _ELEMENT_WIDTH,  # otherwise there is no room for the frames
        theme=theme,
        domain=domain,
    )
    return chart.properties(title=altair.TitleParams(text=title, subtitle=subtitle, fontSize=13))


def element_bars(
    elements: Sequence[tuple[int, int]],
    values: Sequence[float],
    stderr: Sequence[float] | None,
    *,
    title: str,
    width: int,
    numbered: bool,
    theme: Theme,
    domain: tuple[float, float] | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> altair.LayerChart:
    """Return a bar per element: ESVs, or differences of ESVs.

    Args:
        elements: position and frame number of each.
        values: their values.
        stderr: standard errors, or None.
        title: of the values, with their unit.
        width: of the plot, in pixels.
        numbered: whether the frame numbers stand above the bars.
        theme: colors.
        domain: values between which the axis reaches at least; None: those of the data.
        links: addresses that the bars lead to, and descriptions of the bars; none: they are no links.
    """
    import altair

    rows: list[dict[str, Any]] = [
        {"element": place, "frame": frame, "value": value, "supports": value > 0}
        for (place, frame), value in zip(elements, values, strict=True)
    ]
    if stderr is not None:
        for row, error in zip(rows, stderr, strict=True):
            row |= {"low": row["value"] - error, "high": row["value"] + error}
    base = altair.Chart(altair.Data(values=rows)).encode(
        x=altair.X(
            "element:O",
            title="element (above the bars: frame)" if numbered else "element",
            axis=altair.Axis(labelAngle=0, ticks=False, domain=False, labelOverlap=True),
        )
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(
        y=altair.Y(
            "value:Q",
            title=title,
            axis=altair.Axis(tickCount=5, format="~g"),
            scale=altair.Undefined if domain is None else altair.Scale(domain=list(domain), nice=True),
        ),
        color=altair.condition("datum.supports", altair.value(theme.supporting), altair.value(theme.distracting)),
        tooltip=[
            altair.Tooltip("element:O"),
            altair.Tooltip("frame:O"),
            altair.Tooltip("value:Q", title="ESV", format="+.4f"),
        ],
    )
    if links:
        for row, (link, told) in zip(rows, links, strict=True):
            row |= {"leads_to": link, "told": told}
        bars = bars.encode(href="leads_to:N", description="told:N")
    layers = [bars, altair.Chart(altair.Data(values=[{"zero": 0}])).mark_rule(color=theme.faint).encode(y="zero:Q")]
    if stderr is not None:
        layers.append(base.mark_rule(color=theme.ink).encode(y="low:Q", y2="high:Q"))
    frames = base.mark_text(baseline="bottom", dy=-4, fontSize=9, color=theme.faint).encode(
        y=altair.value(0), text="frame:O"
    )
    if numbered:
        layers.append(frames)
    return altair.layer(*layers).properties(width=width, height=_PANEL_HEIGHT)


def _pictures(video: AttributedVideo, thumbnails: Sequence[str | None]) -> altair.Chart:
    """Return a row of pictures, one below each element."""
    import altair

    side = _width(video) // max(1, video.n) - 2
    rows = [{"element": place, "url": url} for place, url in enumerate(thumbnails) if url]
    return (
        altair.Chart(altair.Data(values=rows))
        .mark_image(width=side, height=side, aria=False)
        .encode(
            x=altair.X("element:O", axis=None, scale=altair.Scale(domain=list(range(video.n)))),
            y=altair.value(side / 2),
            url="url:N",
        )
        .properties(width=_width(video), height=side)
    )
