import shutil
from pathlib import Path

import pytest

from tests.hardware.recordings import Programs


@pytest.fixture
def home(home: Path) -> Path:
    """Nothing is known of the machine yet."""
    shutil.rmtree(home / "cache")
    return home


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    return Programs(tmp_path / "programs", monkeypatch)
