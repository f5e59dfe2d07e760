"""A source read on a cluster: tasks parse the files of a folder, others add symmetry and hash.

Both come in order, and few of them are ahead of who uses them.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from platonic_store.structures import StructureBatch
from platonic_store.structures.assemble import assemble
from platonic_store.structures.sources import Group, Part, Record, parts, records, records_in

if TYPE_CHECKING:
    from ray import ObjectRef

# A task parses small files together, and is so many lists of so many records ahead at most.
PART_BYTES: Final = 16 << 20
TOGETHER: Final = 1024
LISTS_AHEAD: Final = 4


def records_by_tasks(source: Any, format: str | None) -> Iterator[Record]:
    """What `records` gives. A file that only this machine sees is read here.

    Raises: as `records`.
    """
    files = parts(source, format)
    return _parsed_by_tasks(files) if files else records(source, format)


def assembled_by_tasks(groups: Iterable[Group]) -> Iterator[StructureBatch]:
    """Batches of groups, in their order.

    They ask for no core, or they would wait for ever for those that actors hold.
    """
    import ray

    task: Any = ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(assemble)
    ahead: deque[ObjectRef[StructureBatch]] = deque()
    width = _cores() + 1
    for group in groups:
        ahead.append(task.remote(group.crystals, group.rejected))
        if len(ahead) >= width:
            yield ray.get(ahead.popleft())
    while ahead:
        yield ray.get(ahead.popleft())


def _parsed_by_tasks(files: Sequence[Part]) -> Iterator[Record]:
    import ray
    from ray.exceptions import RayTaskError

    task: Any = ray.remote(num_cpus=1, num_returns="streaming")(_parsed)
    task = task.options(_generator_backpressure_num_objects=LISTS_AHEAD)
    together = _together(files)
    ahead: deque[tuple[list[Part], Any]] = deque()
    while True:
        for some in islice(together, 2 * _cores() - len(ahead)):
            ahead.append((some, task.remote(some)))
        if not ahead:
            return
        some, lists = ahead.popleft()
        try:
            first = ray.get(next(lists))
        except StopIteration:
            continue
        except RayTaskError as error:
            if not isinstance(error.cause, FileNotFoundError):
                raise error.cause from None
            yield from records_in(some)
            continue
        yield from first
        for found in lists:
            yield from ray.get(found)


def _parsed(files: list[Part]) -> Iterator[list[Record]]:
    for file in files:
        file.path.stat()
    found = records_in(files)
    while some := [*islice(found, TOGETHER)]:
        yield some


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


def _cores() -> int:
    import ray

    resources: Any = ray.cluster_resources  # without types
    return max(1, int(resources().get("CPU", 1)))
