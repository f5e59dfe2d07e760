"""What a store knows, written into the records of a user's own file or database."""

from platonic_store.annotation.annotate import AnnotationReport, annotate

__all__ = ["AnnotationReport", "annotate"]
