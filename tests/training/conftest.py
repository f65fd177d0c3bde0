"""Fixtures of trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.training import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)
