"""Where platonic-store keeps what is this user's and no store's."""

import os
from pathlib import Path

import platformdirs


def cache() -> Path:
    """Environments and downloaded weights; `PLATONIC_STORE_CACHE` names another folder."""
    named = os.environ.get("PLATONIC_STORE_CACHE")
    return Path(named).absolute() if named else platformdirs.user_cache_path("platonic-store")


def config() -> Path:
    """What the user decided, and families of the user's own; `PLATONIC_STORE_CONFIG` likewise."""
    named = os.environ.get("PLATONIC_STORE_CONFIG")
    return Path(named).absolute() if named else platformdirs.user_config_path("platonic-store")
