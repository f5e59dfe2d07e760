"""A store over HTTP: the API, OPTIMADE, tools for agents; read-only."""
