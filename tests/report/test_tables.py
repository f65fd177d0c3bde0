"""Texts of tables and sentences of a report."""

from __future__ import annotations

import pytest

from esv_ray.report.tables import prose, with_minus

_MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-0.5", f"{_MINUS}0.5"),
        ("difference -0.300 (-0.350 to -.25)", f"difference {_MINUS}0.300 ({_MINUS}0.350 to {_MINUS}.25)"),
        ("-0.02..-0.01", f"{_MINUS}0.02..{_MINUS}0.01"),
        ("1.8e-07", "1.8e-07"),
        ("video-3, key-2-00013, 3-4 and s3://bucket/-5", "video-3, key-2-00013, 3-4 and s3://bucket/-5"),
        ("--features -x", "--features -x"),
    ],
)
def test_negative_numbers_have_a_minus_sign(text: str, shown: str) -> None:
    """Names, ranges, powers and options keep their hyphens."""
    assert with_minus(text) == shown


def test_sentences_are_escaped_and_numbers_are_whole() -> None:
    assert prose("<b> 95 % of 1.8e-07") == ('&lt;b&gt; 95\N{NO-BREAK SPACE}% of <span class="whole">1.8e-07</span>')
