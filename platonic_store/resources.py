"""Where the folders that travel with the package lie: `ingest`, `queries`, `migrations`."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `name`, in a wheel (inside the package) as in a checkout (beside it)."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
