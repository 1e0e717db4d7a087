"""Where this program reads and writes. `GGUF_VL_HOME` moves all of it into one folder."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import PlatformDirs

_DIRS = PlatformDirs("gguf_vl", appauthor=False)
PACKAGE = Path(__file__).resolve().parent


def _home() -> Path | None:
    home = os.environ.get("GGUF_VL_HOME")
    return Path(home).expanduser().absolute() if home else None


def data_dir() -> Path:
    """Downloaded models and what else must outlive a clean-up."""
    return _home() or Path(_DIRS.user_data_dir)


def models_dir() -> Path:
    """One folder per installed model."""
    return data_dir() / "models"


def cache_dir() -> Path:
    """What can be had again at any time."""
    home = _home()
    return home / "cache" if home else Path(_DIRS.user_cache_dir)


def config_file() -> Path:
    """The person's settings."""
    return (_home() or Path(_DIRS.user_config_dir)) / "config.toml"


def pocket_dir() -> Path:
    """The embedded model's two files, inside the package."""
    return PACKAGE / "pocket"
