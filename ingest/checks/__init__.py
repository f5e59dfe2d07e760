"""What the conformance kit asks of a model; `ingest/conformance.py` runs it."""
