"""The page's sections, one module each, in reading order."""

from platonic_store.report.sections import (
    alignment,
    analogies,
    bias,
    committee,
    coverage,
    layers,
    models,
    near_duplicates,
    screening,
    space,
    stitching,
    transport,
    typicality,
)

SECTIONS = [
    models,
    space,
    alignment,
    layers,
    transport,
    analogies,
    stitching,
    typicality,
    coverage,
    committee,
    near_duplicates,
    screening,
    bias,
]
