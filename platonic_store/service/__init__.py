"""A store over HTTP: the declared questions as routes, and what else is reached by a browser.

`app.create_app` puts it together, `run.serve` runs it. Everything here only reads the store.
"""
