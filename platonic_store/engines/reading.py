"""A source read on a cluster: the files of a folder by tasks; of another source, symmetry and hash.

The batches come in the source's order, and few of them are ahead of who uses them.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from platonic_store.structures import StructureBatch, read
from platonic_store.structures.assemble import assemble
from platonic_store.structures.sources import Group, Part, parts, read_parts

if TYPE_CHECKING:
    from ray import ObjectRef

# A task reads small files together, and each is so many batches ahead at most.
PART_BYTES: Final = 16 << 20
BATCHES_AHEAD: Final = 4


def read_by_tasks(source: Any, *, format: str | None, batch_size: int) -> Iterator[StructureBatch]:
    """What `structures.read` gives. A file that only this machine sees is read here.

    Raises: as `read`.
    """
    if files := parts(source, format):
        return _read_files(files, batch_size)
    return read(source, format=format, batch_size=batch_size, assembled=_assembled)


def _read_files(files: Sequence[Part], batch_size: int) -> Iterator[StructureBatch]:
    import ray
    from ray.exceptions import RayTaskError

    task: Any = ray.remote(num_cpus=1, num_returns="streaming")(_read)
    task = task.options(_generator_backpressure_num_objects=BATCHES_AHEAD)
    together = _together(files)
    ahead: deque[tuple[list[Part], Any]] = deque()
    while True:
        for some in islice(together, _width() - len(ahead)):
            ahead.append((some, task.remote(some, batch_size)))
        if not ahead:
            return
        some, batches = ahead.popleft()
        try:
            first = ray.get(next(batches))
        except StopIteration:
            continue
        except RayTaskError as error:
            if not isinstance(error.cause, FileNotFoundError):
                raise error.cause from None
            yield from read_parts(some, batch_size)
            continue
        yield first
        yield from (ray.get(batch) for batch in batches)


def _read(files: list[Part], batch_size: int) -> Iterator[StructureBatch]:
    for file in files:
        file.path.stat()
    yield from read_parts(files, batch_size)


def _together(files: Iterable[Part]) -> Iterator[list[Part]]:
    some: list[Part] = []
    size = 0
    for file in files:
        some.append(file)
        size += file.path.stat().st_size
        if size >= PART_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _assembled(groups: Iterable[Group]) -> Iterator[StructureBatch]:
    import ray

    task: Any = ray.remote(num_cpus=1)(assemble)
    ahead: deque[ObjectRef[StructureBatch]] = deque()
    width = _width()
    for group in groups:
        ahead.append(task.remote(group.crystals, group.rejected))
        if len(ahead) >= width:
            yield ray.get(ahead.popleft())
    while ahead:
        yield ray.get(ahead.popleft())


def _width() -> int:
    """How many tasks are under way: enough for all cores, and one waits for each."""
    import ray

    resources: Any = ray.cluster_resources  # without types
    return 2 * max(1, int(resources().get("CPU", 1)))
