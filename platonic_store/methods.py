"""Every question as a method of `Store`, imported when it is asked.

Editors and type checkers read `methods.pyi`, which `make docs` makes from the declarations.
"""

from platonic_store import questions
from platonic_store.questions.shared.declaration import Method


class Questions:
    """The questions; each is asked of the newest published state."""


for name in questions.names():
    setattr(Questions, name, Method(name))
