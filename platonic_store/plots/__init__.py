"""Pictures: the shared space, heat maps, and the figures of the report."""
