"""Parameters that several questions have, each with its type, help and limits."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge

from platonic_store.questions.shared.declaration import StructureMark

StructureQuery = Annotated[
    Any, "A structure: an id of the store, a file, or in Python an object.", StructureMark()
]
Model = Annotated[str | None, "MODEL or MODEL@LAYER; by default the store's first model."]
OneModel = Annotated[str, "MODEL or MODEL@LAYER."]
Models = Annotated[Sequence[str] | None, "Models, each MODEL or MODEL@LAYER; by default all."]
Across = Annotated[
    str | None, "Answer with what this MODEL or MODEL@LAYER embedded, through the shared space."
]
Space = Annotated[str | None, "A shared space's id or recipe; by default the newest that fits."]
Where = Annotated[str | None, 'SQL condition on the answers, e.g. "band_gap > 1".']
K = Annotated[int, "How many.", Ge(1)]
Seed = Annotated[int, "Of samples, shuffles and folds.", Ge(0)]
Level = Annotated[Literal["structure", "atom"], "Structures or their atoms."]
_REFERENCE = (
    "The store of what a model was trained on: a path or URL; in SQL, and asked of a service, a "
    "name that the owner gave to one."
)
ReferenceStore = Annotated[str | None, _REFERENCE]
OneReferenceStore = Annotated[str, _REFERENCE]
