"""Every error that platonic-store raises on purpose.

One base class, each error also a built-in kind, so that `except KeyError` works as well as
`except PlatonicError`. The message is one line: what was wrong. What mends it is `error.hint`,
which every front end words in its own way: a method call in Python, a command in a terminal.
"""

from collections.abc import Callable


class Call:
    """A call that would help: `Call("ingest", models=["chgnet-0.3.0"])` is a method of `Store`,
    `Call("models.accept", "mace-omat-0")` a function of the package.

    Words in capitals stand for what only the user knows: `Call("ingest", "SOURCE")`.
    """

    def __init__(self, name: str, /, *arguments: object, **options: object):
        self.name, self.arguments, self.options = name, arguments, options

    def __str__(self) -> str:
        parts = [_python(value) for value in self.arguments]
        parts += [f"{name}={_python(value)}" for name, value in self.options.items()]
        owner = "platonic_store" if "." in self.name else "store"
        return f"{owner}.{self.name}({', '.join(parts)})"


def _python(value: object) -> str:
    is_placeholder = isinstance(value, str) and value.isupper() and value.isalpha()
    return str(value) if is_placeholder else repr(value)


def worded(hint: tuple[str | Call, ...], call: Callable[[Call], str] = str) -> str:
    """A hint in a front end's words: `call` says how a call is written there.

    Calls in a row are steps; what is separated by text are alternatives.
    """
    texts: list[str] = []
    was_call = False
    for part in hint:
        if isinstance(part, str):
            texts.append(part)
        elif was_call:
            texts[-1] += f" and then `{call(part)}`"
        else:
            texts.append(f"run `{call(part)}`")
        was_call = isinstance(part, Call)
    return ", or ".join(texts)


class PlatonicError(Exception):
    """Base of all errors that a user can mend.

    message: what was wrong, in one line. hint: what mends it, in words that hold in every front end
    or as calls of the Python API.
    """

    def __init__(self, message: str = "", *hint: str | Call):
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(f"hint: {worded(hint)}")

    def __str__(self) -> str:
        # KeyError would print the repr of its argument, quotes and all.
        return str(self.args[0]) if self.args and self.args[0] else type(self).__name__

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (*self.args, *self.hint)


def disk_refusal(error: Exception) -> str | None:
    """What the disk refused, if that is the cause of a library's error."""
    text = str(error).lower()
    signs = ("no space left on device", "permission denied", "read-only file system")
    return next((sign for sign in signs if sign in text), None)


class StructureNotFound(PlatonicError, KeyError):
    """No structure (or atom) of that id in the store."""


class NotEmbedded(PlatonicError, LookupError):
    """The structure is in the store, but the model has no vector of it there."""


class ModelNotFound(PlatonicError, KeyError):
    """No model card, or no embeddings in the store, under that name."""


class LayerNotFound(PlatonicError, KeyError):
    """The model has no such message-passing layer, or the store has no embeddings of it."""


class AnchorsNotFound(PlatonicError, KeyError):
    """No anchor set or projection under that name."""


class MapNotFound(PlatonicError, LookupError):
    """The store has no map: nothing was laid out yet."""


class UnreadableSource(PlatonicError, ValueError):
    """A source of structures that is missing, empty, truncated or of an unknown format."""


class InvalidTarget(PlatonicError, ValueError):
    """A file or table that cannot be annotated: its kind, ids, key, or the right to write it."""


class ConflictingStructure(PlatonicError, ValueError):
    """The same id arrived again with another content."""


class InvalidQuery(PlatonicError, ValueError):
    """A query, filter or argument that cannot be understood."""


class StoreNotFound(PlatonicError, FileNotFoundError):
    """The store path does not exist, or is not a store."""


class SnapshotNotFound(PlatonicError, KeyError):
    """No snapshot of that number in the store, or no longer."""


class StoreDamaged(PlatonicError, OSError):
    """A file of the store is not what its manifest says."""


class StoreNotWritable(PlatonicError, PermissionError):
    """The store cannot be written: a read-only folder, or a full disk."""


class StoreBusy(PlatonicError, BlockingIOError):
    """Another process is writing to the store."""


class LeaseLost(StoreBusy):
    """Another process took over the writing of the store, because this one's lease had lapsed."""


class StoreUnreachable(PlatonicError, ConnectionError):
    """An object store or web server does not answer, or refuses the credentials."""


class StoreTooNew(PlatonicError, RuntimeError):
    """The store was written by a newer platonic-store."""


class CheckpointMismatch(PlatonicError, ValueError):
    """A model's weights differ from those that made the embeddings in the store."""


class WeightsNotFound(PlatonicError, FileNotFoundError):
    """A model's weights are not on this machine and could not be fetched."""


class LicenceNotAccepted(PlatonicError, PermissionError):
    """The licence of a model's weights restricts their use, and was not accepted yet."""


class InvalidCard(PlatonicError, ValueError):
    """A family or model card from outside this package that does not fit the schema."""


class EnvironmentNotReady(PlatonicError, RuntimeError):
    """No Python interpreter at hand can run this model."""


class WorkerFailed(PlatonicError, RuntimeError):
    """A model worker could not start, or died in a way that no retry can mend."""


class ClusterNotReady(PlatonicError, ConnectionError):
    """No Ray cluster answers, or none of its nodes can run what is asked."""


class OutOfTime(PlatonicError, TimeoutError):
    """An answer of a service took longer than it allows."""


class ServiceBusy(PlatonicError, BlockingIOError):
    """A service has as much to answer as it can: the same request again later."""


class TooManyRequests(ServiceBusy):
    """A service has as much to answer to one client as it allows."""


class NotAllowed(PlatonicError, PermissionError):
    """What a service was started without, or that needs its token."""


class TooLarge(PlatonicError, ValueError):
    """A request that is larger than a service allows."""
