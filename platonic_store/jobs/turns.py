"""Whose turn it is in an ingest: models in the order asked for, their workers started ahead."""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

from platonic_store.engines import Engine
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.local import LocalEngine
from platonic_store.runtimes.cards import Card, layers_wanted, outputs_wanted
from platonic_store.runtimes.forkserver import Forkserver
from platonic_store.runtimes.preparation import ModelElsewhere, RunnableModel
from platonic_store.storage.gaps import Wanted
from platonic_store.storage.layout import StoreDtype
from platonic_store.storage.writer import Writer

AnyModel = RunnableModel | ModelElsewhere


class Asked(NamedTuple):
    """What is asked of models.

    outputs: "energy", or "energy,forces", which are stored beside embeddings. store_dtype: of
    embeddings; None: as the model's others are stored, or float32. cluster: whose nodes do it, in
    place of this machine.
    """

    layers: str = "default"
    outputs: str = ""
    device: str = "auto"
    batch_atoms: int | None = None
    store_dtype: StoreDtype | None = None
    cluster: Cluster | None = None

    def of(self, card: Card) -> Wanted:
        """Raises: LayerNotFound, InvalidQuery."""
        layers, outputs = layers_wanted(card, self.layers), outputs_wanted(card, self.outputs)
        return Wanted(card.name, [*layers], [*outputs], [*card.elements])


class Turn(NamedTuple):
    """A model to embed with. place: among those asked for. engine: if its workers have started.

    named_at: in the order of places, whichever is embedded first.
    """

    place: int
    model: AnyModel
    named_at: datetime
    server: Forkserver | None = None
    engine: LocalEngine | None = None


class Turns:
    """The models that wait for their turn: no more than are let in, since workers take memory."""

    def __init__(
        self,
        writer: Writer,
        models: Iterator[tuple[AnyModel, Forkserver | None]],
        asked: Asked,
        stack: ExitStack,
    ):
        """models: each with what forks its workers. stack: with which started engines end."""
        self._writer, self._asked, self._stack = writer, asked, stack
        self._coming, self._began = enumerate(models), datetime.now(UTC)
        self._waiting: list[Turn] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def let_in(self, count: int) -> None:
        """Have so many more models wait, and the workers of those start that can."""
        for place, (model, server) in islice(self._coming, count):
            named_at = self._began + timedelta(microseconds=place)
            self._waiting.append(Turn(place, model, named_at, server))
        for place, turn in enumerate(self._waiting):
            # Unless they are forked, the next one's would share a GPU with those at work.
            if turn.engine is None and (turn.server or not place) and not self._asked.outputs:
                self._waiting[place] = turn._replace(engine=self._started(turn))

    def _started(self, turn: Turn) -> LocalEngine | None:
        """The engine of a model of this machine."""
        if not isinstance(turn.model, RunnableModel):
            return None
        engine = engine_of(self._writer, turn, self._asked.of(turn.model.card), self._asked)
        assert isinstance(engine, LocalEngine)
        return self._stack.enter_context(engine)

    @property
    def able_to_begin(self) -> dict[int, Wanted]:
        """What is asked of the models of which one may embed what comes, by their places."""
        able = [turn for turn in self._waiting if turn.engine or not turn.place]
        return {turn.place: self._asked.of(turn.model.card) for turn in able}

    def first_ready(self, places: list[int]) -> int:
        """Of several models that may begin, whose workers are ready first."""
        if len(places) == 1:
            return places[0]
        engines = {
            turn.place: turn.engine
            for turn in self._waiting
            if turn.engine and turn.place in places
        }
        wait([engine.ready for engine in engines.values()], return_when=FIRST_COMPLETED)
        return next(place for place, engine in engines.items() if engine.ready.done())

    def put_first(self, place: int) -> None:
        self._waiting.sort(key=lambda turn: turn.place != place)

    def next(self) -> Turn:
        return self._waiting.pop(0)

    def next_ready(self) -> Turn | None:
        """The next, if its workers were forked ahead and have started."""
        turn = self._waiting[0] if self._waiting else None
        if turn and turn.server and turn.engine and turn.engine.ready.done():
            return self.next()
        return None


def engine_of(writer: Writer, turn: Turn, wanted: Wanted, asked: Asked) -> Engine:
    """Where a model runs: on this machine, or on the cluster."""
    model, server, device, batch_atoms = turn.model, turn.server, asked.device, asked.batch_atoms
    if isinstance(model, RunnableModel):
        return LocalEngine(
            writer, model, wanted, device=device, batch_atoms=batch_atoms, server=server
        )
    from platonic_store.engines.on_cluster import ClusterEngine

    assert asked.cluster is not None
    return ClusterEngine(
        writer, model, wanted, asked.cluster, device=device, batch_atoms=batch_atoms
    )
