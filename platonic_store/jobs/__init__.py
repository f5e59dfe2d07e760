"""Writing to a store: ingest, anchors, projection, scores; a module a job."""
