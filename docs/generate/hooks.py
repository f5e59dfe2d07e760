"""What `mkdocs build` does beyond the pages of docs/ (`hooks` in mkdocs.yml).

README and CHANGELOG become pages, and a public name that the reference lacks fails the build.
"""

from collections.abc import Iterator
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
COPIED = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}
PUBLIC = ["store", "errors", "models", "geometry"]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README and CHANGELOG, with their links as seen from docs/."""
    for page, source in COPIED.items():
        text = (ROOT / source).read_text().replace("](docs/", "](")
        for other, name in COPIED.items():
            text = text.replace(f"]({name}", f"]({other}")
        files.append(File.generated(config, page, content=text))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Compare the public names with those that mkdocstrings found documented."""
    documented = config.plugins["mkdocstrings"].handlers.inventory
    if missing := [name for name in public_names() if name not in documented]:
        raise PluginError(f"without a docstring, or not in docs/reference: {', '.join(missing)}")


def public_names() -> Iterator[str]:
    """Every public function and class, method and property, read from the source."""
    package = griffe.load("platonic_store", search_paths=[ROOT])
    families = griffe.load("ingest.families", search_paths=[ROOT])
    modules = [package.members[name] for name in PUBLIC if name in package.members]
    for module in [*modules, families]:
        yield from _public(module)


def _public(owner: griffe.Object | griffe.Alias) -> Iterator[str]:
    """The names in a module or class, and those in its own modules and classes."""
    for member in owner.members.values():
        if member.is_alias or member.is_special or not member.is_public:
            continue
        if member.is_function or member.is_class or "property" in member.labels:
            yield member.path
        if member.is_module or member.is_class:
            yield from _public(member)
