"""Where platonic-store keeps what belongs to the user and not to a store."""

import os
from pathlib import Path

import platformdirs


def cache() -> Path:
    """Environments and downloaded weights. `PLATONIC_STORE_CACHE` sets another folder."""
    folder = os.environ.get("PLATONIC_STORE_CACHE")
    return Path(folder).absolute() if folder else platformdirs.user_cache_path("platonic-store")


def config() -> Path:
    """The trust store and the user's own families. `PLATONIC_STORE_CONFIG` sets another folder."""
    folder = os.environ.get("PLATONIC_STORE_CONFIG")
    return Path(folder).absolute() if folder else platformdirs.user_config_path("platonic-store")
