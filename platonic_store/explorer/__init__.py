"""The explorer: two models' maps, the crystal, and its neighbours by both, in a browser.

`rows`, `maps` and `columns` are the map's points and what they carry, `data` what a view shows,
`routes` serves it, `static` is the page, and `static_page` the page with its data inside.
"""

from platonic_store.explorer.static_page import write_page

__all__ = ["write_page"]
