"""What runs beside a model, in the model's own interpreter.

Imports nothing of platonic_store: the two meet in Arrow streams (see `worker`). A model is a
card, a family of models a folder (`families/`).
"""
