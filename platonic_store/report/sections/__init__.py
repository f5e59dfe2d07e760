"""The page's sections, one module each, in reading order."""

from platonic_store.report.sections import analogies, layers, models, space, typicality

SECTIONS = [models, space, layers, analogies, typicality]
