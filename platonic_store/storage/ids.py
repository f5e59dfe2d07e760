"""Ids of sources, runs and chunks: random, so that writers need not agree on the next one."""

import secrets


def new_id() -> int:
    """An id that nobody has, of 53 bits: JSON and floats hold it exactly."""
    return secrets.randbits(53)
