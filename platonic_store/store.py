"""`Store`: the one object that a user holds."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store import commits, ingestion, spaces, typicality
from platonic_store import picture as pictures
from platonic_store import search as searching
from platonic_store import sql as sql_front_end
from platonic_store.catalog import Catalog
from platonic_store.errors import (
    InvalidQuery,
    StoreBusy,
    StoreNotFound,
    StoreNotWritable,
)
from platonic_store.ingestion import RunReport, SourceReport
from platonic_store.runtimes.preparation import ByName, prepare
from platonic_store.snapshot import Snapshot, take
from platonic_store.spaces import AnchorSet, Projected
from platonic_store.vectors import Level, Vectors


class Store:
    """A store of embeddings: a folder with a DuckDB catalogue and Lance vector tables.

    ```python
    store = Store.open("crystals.store")
    store.ingest("mp20.csv.gz", models=["sevennet-0", "chgnet-0.3.0"])
    store.select_anchors(k=100)
    store.project()
    store.similar("mp-1234", across="chgnet-0.3.0", where="band_gap > 1")
    ```
    """

    def __init__(self, path: Path):
        self.path = path
        self.catalog = Catalog(path / "catalog.duckdb")
        self.vectors = Vectors(path / "vectors")
        self._lock = filelock.FileLock(path / "writer.lock")

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """The store at `path`, which the first ingest makes if there is none.

        Raises: StoreNotFound if `path` is something else; StoreTooNew.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise StoreNotFound(f"{path} is a file, not a store: name a folder with `--store`")
        store = cls(path)
        is_ours = store.catalog.path.exists() or (path / "writer.lock").exists()
        if path.is_dir() and any(path.iterdir()) and not is_ours:
            raise StoreNotFound(
                f"{path} is a folder of other things, not a store: name another with `--store`"
            )
        store.catalog.revision()
        return store

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[dict[str, int]]:
        """The one writer: the store exists, its tables are today's, and nothing is half done.

        Gives what `commits.recover` had to settle.
        """
        if not create:
            self._require()
        try:
            self.vectors.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise StoreBusy(
                f"another process is writing to {self.path}: "
                "wait for it to finish (queries work meanwhile), or stop it"
            ) from None
        except OSError as error:
            raise StoreNotWritable(
                f"cannot write to {self.path}: {error.strerror}; name another place with `--store`"
            ) from None
        try:
            self.catalog.migrate()
            yield commits.recover(self.catalog, self.vectors)
        finally:
            self._lock.release()

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """The last committed state, for several queries that must see the same one.

        Raises: StoreNotFound if nothing was ever ingested.
        """
        self._require()
        return take(self.catalog, self.vectors)

    def _require(self) -> None:
        if self.catalog.revision() is None:
            raise StoreNotFound(
                f"there is no store at {self.path}: run `platonic-store ingest SOURCE "
                f"--model sevennet-0 --store {self.path}`"
            )

    def ingest(
        self,
        source: Any = None,
        models: list[str] | tuple[str, ...] = (),
        *,
        layers: str = "default",
        format: str | None = None,
        python: ByName = None,
        checkpoint: ByName = None,
        trust: Iterable[str] = (),
        device: str = "auto",
        batch_atoms: int | None = None,
    ) -> tuple[SourceReport | None, list[RunReport]]:
        """Read structures, and embed with each model those that it has not embedded yet.

        source: a path (file or folder), `builtin:aflow-prototypes`, or pymatgen `Structure` and
            ASE `Atoms` objects, one or many, or a dict of them by id; None means all that the
            store holds already.
        layers: "default" (the card's), "first", "last", "all", or indices such as "0,2".
        python: an interpreter that has the model's packages, or a dict of them by family; by
            default this one if it fits, else an environment that is made for the family.
        checkpoint: weights of the user's own, or a dict of them by model.
        trust: SHA-256 sums of weights that may be loaded though no card names them.
        batch_atoms: atoms in one forward; by default what suits the device.

        To run it again resumes, and does nothing where all is done. What cannot be read or
        embedded goes to the `quarantine` view with its reason.

        Raises: UnreadableSource, ConflictingStructure, ModelNotFound, LayerNotFound,
        LicenceNotAccepted, WeightsNotFound, EnvironmentNotReady, WorkerFailed, CheckpointMismatch,
        StoreBusy, StoreNotWritable.
        """
        from platonic_store.runtimes.cards import layers_wanted, resolve

        for name in models:
            layers_wanted(resolve(name), layers)
        ready = prepare(models, python=python, checkpoint=checkpoint, trust=trust)
        with self._writing(create=source is not None):
            source_id, report = None, None
            if source is not None:
                source_id, report = ingestion.read_source(self.catalog, source, format)
            runs = [
                ingestion.embed(
                    self.catalog,
                    self.vectors,
                    model,
                    source_id=source_id,
                    layers=layers,
                    device=device,
                    batch_atoms=batch_atoms,
                )
                for model in ready
            ]
        return report, runs

    def delete(self, structure_ids: list[str]) -> None:
        """Delete structures with all their embeddings.

        Raises: StructureNotFound; InvalidQuery if one holds an anchor (anchor sets are immutable).
        """
        with self._writing():
            with self.snapshot() as snapshot:
                for id_ in structure_ids:
                    snapshot.require_structure(id_)
                anchored = snapshot.rows(
                    "SELECT structure_id, anchor_set FROM catalog.main.anchors "
                    "WHERE structure_id IN (SELECT unnest(?)) LIMIT 1",
                    [structure_ids],
                )
            if anchored:
                raise InvalidQuery(
                    f"{anchored[0][0]} holds an anchor of {anchored[0][1]}, which every "
                    "coordinate in its spaces rests on: it cannot be deleted"
                )
            commits.delete_structures(self.catalog, self.vectors, structure_ids)

    def select_anchors(
        self,
        method: str = "direct",
        k: int = 100,
        *,
        model: str | None = None,
        layer: int | None = None,
        seed: int = 0,
        file: str | Path | None = None,
    ) -> AnchorSet:
        """Choose and keep k anchor atoms.

        method: "direct" (DIRECT sampling, the same for the same atoms in any order), "maml" (as
        the maml package chooses), "farthest" or "random"; or a `file` that lists them.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery, StructureNotFound.
        """
        with self._writing():
            with self.snapshot() as snapshot:
                if file is not None:
                    chosen, origin = spaces.anchors_from_file(snapshot, Path(file))
                else:
                    chosen, origin = spaces.select_anchors(snapshot, method, k, model, layer, seed)
            spaces.save_anchors(self.catalog, chosen, origin)
        return chosen

    def project(
        self,
        models: list[str] | tuple[str, ...] = (),
        *,
        recipe: str = spaces.DEFAULT_RECIPE,
        anchors: str | None = None,
        layer: int | None = None,
    ) -> list[Projected]:
        """Bring models (all, if none is named) up to date in the space of a recipe and anchors.

        anchors: an anchor set's id or its beginning; by default the newest set.

        Raises: AnchorsNotFound, ModelNotFound, LayerNotFound, InvalidQuery.
        """
        with self._writing():
            with self.snapshot() as snapshot:
                names = [snapshot.model(name) for name in models] or snapshot.models()
                if not names:
                    snapshot.model(None)
            return [
                spaces.project_model(
                    self.catalog, self.vectors, name, recipe=recipe, anchors=anchors, layer=layer
                )
                for name in names
            ]

    def similar(
        self,
        query: Any,
        *,
        model: str | None = None,
        layer: int | None = None,
        across: str | None = None,
        space: str | None = None,
        site: int | None = None,
        level: Level | None = None,
        k: int = 10,
        where: str | None = None,
    ) -> pd.DataFrame:
        """The k structures (or, with `site`, atoms) most alike to one.

        query: an id, a file, a pymatgen `Structure`, ASE `Atoms`, or a vector (numpy).
        model: the model that looks at the query; by default the store's first one.
        across: answer from this model's side, through the shared space. The query's own
            structure is then among the candidates: to find it is the test of the space.
        space: a space's id or recipe; by default the newest that holds both models.
        where: an SQL condition on the columns of the `structure` view (and `site`, for atoms);
            exact: k answers wherever k exist.

        Atoms stand for all their symmetry-equivalent sites. The frame has rank, distance
        (1 − cosine), id, for atoms site_index, element and multiplicity, and all properties.

        Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, AnchorsNotFound,
        InvalidQuery, UnreadableSource.
        """
        query = searching.met(self.snapshot, query, model, layer)
        with self.snapshot() as snapshot:
            return searching.similar(
                snapshot,
                query,
                model=model,
                layer=layer,
                across=across,
                space=space,
                site=site,
                level=level,
                k=k,
                where=where,
            )

    def outliers(
        self, *, model: str | None = None, layer: int | None = None, k: int = 20
    ) -> pd.DataFrame:
        """The k least typical structures; typicality is not confidence.

        See `platonic_store.typicality.outliers` for what the score is.
        """
        with self.snapshot() as snapshot:
            return typicality.outliers(snapshot, model=model, layer=layer, k=k)

    def sql(self, query: str, *, allow_files: bool = False) -> pd.DataFrame:
        """Run read-only SQL over the views and functions of the store; see docs/sql.md.

        It reaches nothing outside the store unless `allow_files`.

        Raises: InvalidQuery with what DuckDB says.
        """
        with self.snapshot() as snapshot:
            return sql_front_end.run(snapshot, query, allow_files=allow_files).to_pandas()

    def sql_arrow(self, query: str, *, allow_files: bool = False) -> pa.Table:
        """Like `sql`, as an Arrow table."""
        with self.snapshot() as snapshot:
            return sql_front_end.run(snapshot, query, allow_files=allow_files)

    def init_sql(self) -> str:
        """A script with which the plain `duckdb` client opens this store."""
        with self.snapshot() as snapshot:
            return sql_front_end.init_script(snapshot, self.path.resolve())

    def embeddings(
        self,
        model: str | None = None,
        layer: int | None = None,
        *,
        level: Level = "atom",
        space: str | None = None,
    ) -> pa.Table:
        """A model's embeddings (or, with `space`, coordinates) as an Arrow table with their keys.

        `platonic_store.vectors.vector_matrix(table["vector"])` gives (n, dim) float32.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound.
        """
        from platonic_store.vectors import vector_array

        with self.snapshot() as snapshot:
            model = snapshot.model(model)
            layer = snapshot.layer(model, layer)
            if space is None:
                table = snapshot.embeddings(model, layer, level)
            else:
                space = snapshot.space(space, [model])
                table = snapshot.coordinates(space, model, layer, level)
            points = snapshot.points(table)
        return points.keys.drop_columns("chunk_id").append_column(
            "vector", vector_array(points.vectors)
        )

    def vector(
        self,
        query: Any,
        *,
        model: str | None = None,
        layer: int | None = None,
        space: str | None = None,
        site: int | None = None,
    ) -> np.ndarray:
        """(dim,) float32: the embedding of one structure, or of one of its atoms."""
        query = searching.met(self.snapshot, query, model, layer)
        with self.snapshot() as snapshot:
            return searching.vector(
                snapshot, query, model=model, layer=layer, space=space, site=site
            )

    def _repr_html_(self) -> str:
        """The models of the store, for notebooks."""
        if self.catalog.revision() is None:
            return f"<p>platonic-store at <code>{self.path}</code>, nothing ingested yet</p>"
        counts = self.sql(
            "SELECT count(*) AS structures, sum(nsites)::BIGINT AS atoms FROM structure"
        )
        models = self.sql("SELECT name, family, layers, default_layer, structures FROM model")
        n, atoms = counts.iloc[0]
        return (
            f"<p>platonic-store at <code>{self.path}</code>: {n:,} structures, {atoms or 0:,} atoms"
            f"</p>{models.to_html(index=False)}"
        )

    def picture(self, folder: str | Path, *, space: str | None = None) -> list[Path]:
        """Draw the shared space, a panel a model on the same axes, as PNG and HTML with hover.

        Raises: AnchorsNotFound if nothing is projected.
        """
        with self.snapshot() as snapshot:
            return pictures.draw(snapshot, Path(folder), space)

    def doctor(self) -> dict[str, Any]:
        """Settle what a killed writer left, compact, and check catalogue against vectors.

        Returns what was settled, and `problems`, a line each (empty when all is well).
        """
        with self._writing() as settled:
            problems = commits.verify(self.catalog, self.vectors)
            if not problems:
                commits.maintain(self.catalog, self.vectors)
        return {**settled, "problems": problems}
