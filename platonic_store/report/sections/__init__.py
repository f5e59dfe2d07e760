"""The page's sections, one module each, in reading order."""

from platonic_store.report.sections import models, space

SECTIONS = [models, space]
