"""What can be asked of a store: one module a question, each over a `Snapshot`, each a frame."""
