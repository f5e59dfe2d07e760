"""Code that runs in a model's own interpreter.

Imports nothing of platonic_store: they exchange Arrow streams (see `worker`). Each model has a
card, each family of models a folder in `families/`.
"""
