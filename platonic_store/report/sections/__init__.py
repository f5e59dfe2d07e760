"""The page's sections, one module each, in reading order."""

from platonic_store.report.sections import (
    alignment,
    analogies,
    bias,
    committee,
    layers,
    models,
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
    committee,
    screening,
    bias,
]
