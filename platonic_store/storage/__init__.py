"""A store on disk: DuckDB catalogue, Lance tables, commits, and the state that readers see."""
