"""`Store`: what a user holds. Its questions are in `questions/`, its jobs in `jobs/`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from platonic_store import questions
from platonic_store import sql as sql_front_end
from platonic_store.annotation.annotate import AnnotationReport, annotate
from platonic_store.arrow import vector_array
from platonic_store.errors import (
    Call,
    InvalidQuery,
    StoreNotFound,
    StoreNotWritable,
)
from platonic_store.jobs import anchors as anchor_job
from platonic_store.jobs import ingest as ingest_job
from platonic_store.jobs import project as project_job
from platonic_store.jobs import score as score_job
from platonic_store.jobs.anchors import AnchorSet
from platonic_store.jobs.ingest import RunReport, SourceReport
from platonic_store.jobs.project import Projected
from platonic_store.methods import Questions
from platonic_store.questions.shared.declaration import asked_of
from platonic_store.questions.shared.references import Scored
from platonic_store.runtimes.preparation import ByName, prepare
from platonic_store.storage import lookup
from platonic_store.storage.catalog import Catalog
from platonic_store.storage.commits import maintain
from platonic_store.storage.deletions import delete_structures
from platonic_store.storage.log import logged
from platonic_store.storage.recovery import writer
from platonic_store.storage.snapshot import ModelLayer, Snapshot, newest, take
from platonic_store.storage.vectors import Level, Vectors
from platonic_store.storage.verification import verify


class Store(Questions):
    """A store of embeddings: a folder with a DuckDB catalogue and Lance vector tables.

    ```python
    store = Store.open("crystals.store")
    store.ingest("mp20.csv.gz", models=["sevennet-0", "chgnet-0.3.0"])
    store.select_anchors()
    store.project()
    store.similar("mp-1234", across="chgnet-0.3.0", where="band_gap > 1")
    ```
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path = path
        self.read_only = read_only
        self.catalog = Catalog(path / "catalog.duckdb")
        self.vectors = Vectors(path / "vectors")

    @classmethod
    def open(cls, path: str | Path, *, read_only: bool = False) -> "Store":
        """The store at `path`, which the first ingest makes if there is none.

        read_only: refuse every job that writes.

        Raises: StoreNotFound if `path` is something else; StoreTooNew.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise StoreNotFound(f"{path} is a file, a store is a folder", "name a folder")
        store = cls(path, read_only=read_only)
        is_ours = store.catalog.path.exists() or (path / "writer.lock").exists()
        if path.is_dir() and any(path.iterdir()) and not is_ours:
            raise StoreNotFound(
                f"{path} is a folder of other things, not a store", "name another folder"
            )
        store.catalog.revision()
        return store

    if not TYPE_CHECKING:  # or type checkers would take any name for an attribute

        def __getattr__(self, name: str) -> Callable[..., Any]:
            """A question that another package, or this process, has added."""
            if name.startswith("_") or name not in questions.names():
                raise AttributeError(f"a store has no attribute {name!r}")
            return asked_of(self, questions.get(name))

    def snapshot(self) -> Snapshot:
        """The newest published state, for several questions that must see the same one.

        Raises: StoreNotFound if nothing was ever ingested.
        """
        self._require()
        return newest(self.catalog, self.vectors)

    def _require(self) -> None:
        if not self.catalog.path.exists():
            raise StoreNotFound(
                f"there is no store at {self.path}", Call("ingest", "SOURCE", models=["sevennet-0"])
            )

    @contextmanager
    def _writing(self, *, create: bool = False) -> Iterator[dict[str, int]]:
        """The one writer: the store exists, its tables are today's, and nothing is half done.

        Gives what `recover` had to settle.
        """
        if self.read_only:
            raise StoreNotWritable(f"{self.path} was opened read-only", "open it for writing")
        if not create:
            self._require()
        with logged(self.path), writer(self.catalog, self.vectors) as settled:
            yield settled

    def sql(
        self,
        query: str,
        *,
        variables: Mapping[str, object] | None = None,
        allow_files: bool = False,
    ) -> pd.DataFrame:
        """Run read-only SQL over the views and functions of the store; see docs/sql.md.

        query: SQL, or `@name` of the cookbook; see docs/cookbook.md.
        variables: what `getvariable('name')` gives in the query, as text.

        It reaches nothing outside the store unless `allow_files`.

        Raises: InvalidQuery with what DuckDB says.
        """
        table = self.sql_arrow(query, variables=variables, allow_files=allow_files)
        return pd.DataFrame(table.to_pandas())

    def sql_arrow(
        self,
        query: str,
        *,
        variables: Mapping[str, object] | None = None,
        allow_files: bool = False,
    ) -> pa.Table:
        """Like `sql`, as an Arrow table."""
        if not allow_files:
            return sql_front_end.run(self.snapshot(), query, variables=variables)
        self._require()
        with take(self.catalog, self.vectors, allow_files=True) as snapshot:
            return sql_front_end.run(snapshot, query, variables=variables, allow_files=True)

    def init_sql(self) -> str:
        """A script with which the plain `duckdb` client opens this store."""
        with self.snapshot() as snapshot:
            return sql_front_end.init_script(snapshot, self.path.resolve())

    def embeddings(
        self, model: str | None = None, *, level: Level = "atom", space: str | None = None
    ) -> pa.Table:
        """A model's embeddings (or, with `space`, coordinates) as an Arrow table with their keys.

        model: MODEL or MODEL@LAYER. `platonic_store.arrow.vector_matrix(table["vector"])` gives
        (n, dim) float32.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound.
        """
        with self.snapshot() as snapshot:
            side = lookup.model_layer(snapshot, model)
            if space is not None:
                space = lookup.space(snapshot, space, [side.model])
            points = snapshot.points(lookup.vector_table(snapshot, side, level, space))
        vectors = vector_array(points.vectors)
        return points.keys.drop_columns("chunk_id").append_column("vector", vectors)

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
                source_id, report = ingest_job.read_source(self.catalog, source, format)
            runs = [
                ingest_job.embed(
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

    def annotate(
        self,
        target: str | Path,
        *,
        models: list[str] | tuple[str, ...] = (),
        out: str | Path | None = None,
        id: str | None = None,
        table: str | None = None,
        by_id: bool = False,
        k: int = 10,
        within: float = 0.01,
    ) -> AnnotationReport:
        """Write into the records of a user's own file or database what the store says of them.

        target: csv, parquet, extxyz, an ASE db, pymatgen JSON, or `URL#table` (or URL and `table`)
            of a database; in place unless `out` names a copy. See docs/questions/annotate.md for
            the columns.
        models: MODEL or MODEL@LAYER; by default all that are here but the controls.
        id: the column (or key) that names the structures; by default the first usual name.
        by_id: match records by their ids alone and embed nothing. Otherwise a record that has a
            structure is matched by its content, and ingested where the store lacks it.
        k: how many neighbours. within: the cosine distance of near duplicates.

        The same call again changes nothing, and goes on where it was stopped. Typicality is not
        confidence.

        Raises: InvalidTarget, and what `ingest` raises.
        """
        return annotate(
            self,
            target,
            models=models,
            out=out,
            id=id,
            table=table,
            by_id=by_id,
            k=k,
            within=within,
        )

    def delete(self, structure_ids: list[str]) -> None:
        """Delete structures with all their embeddings.

        Raises: StructureNotFound; InvalidQuery if one holds an anchor (anchor sets are immutable).
        """
        with self._writing():
            with self.snapshot() as snapshot:
                for id_ in structure_ids:
                    lookup.require_structure(snapshot, id_)
                anchored = snapshot.rows(
                    "SELECT structure_id, anchor_set FROM catalog.main.anchors "
                    "WHERE structure_id IN (SELECT unnest(?)) LIMIT 1",
                    [structure_ids],
                )
            if anchored:
                raise InvalidQuery(
                    f"{anchored[0][0]} cannot be deleted: it holds an anchor of {anchored[0][1]}, "
                    "on which every coordinate in its spaces rests"
                )
            delete_structures(self.catalog, self.vectors, structure_ids)

    def select_anchors(
        self,
        method: str = anchor_job.DEFAULT_METHOD,
        k: int | None = None,
        *,
        model: str | None = None,
        seed: int = 0,
        file: str | Path | None = None,
    ) -> AnchorSet:
        """Choose and keep k anchor atoms; by default a third of the distinct ones, 2,048 at most.

        method: "random", "direct" (DIRECT sampling, the same for the same atoms in any order),
            "maml" (as the maml package chooses) or "farthest"; or a `file` that lists them.
        model: MODEL or MODEL@LAYER in whose embeddings they are chosen.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery, StructureNotFound.
        """
        with self._writing():
            with self.snapshot() as snapshot:
                if file is not None:
                    chosen, origin = anchor_job.anchors_from_file(snapshot, Path(file))
                else:
                    side = lookup.model_layer(snapshot, model)
                    chosen, origin = anchor_job.select_anchors(snapshot, method, k, side, seed)
            anchor_job.save_anchors(self.catalog, chosen, origin)
        return chosen

    def project(
        self,
        models: list[str] | tuple[str, ...] = (),
        *,
        recipe: str | None = None,
        anchors: str | None = None,
    ) -> list[Projected]:
        """Bring models (all, if none is named) up to date in the space of a recipe and anchors.

        models: each MODEL or MODEL@LAYER.
        recipe: "cosine", "centred", "whitened" or "aligned"; by default "aligned", where two
            trained models have embedded the anchors, else "whitened".
        anchors: an anchor set's id or its beginning; by default the newest set.

        Raises: AnchorsNotFound, ModelNotFound, LayerNotFound, InvalidQuery.
        """
        with self._writing():
            sides = self._sides(models)
            space = project_job.open_space(self.catalog, self.vectors, recipe, anchors)
            return [
                project_job.project_model(self.catalog, self.vectors, space, side) for side in sides
            ]

    def score(
        self,
        models: list[str] | tuple[str, ...] = (),
        *,
        among: str | None = None,
        seed: int | None = None,
        renew: bool = False,
    ) -> list[Scored]:
        """Score how typical each structure looks to models (all, if none is named), and keep it.

        models: each MODEL or MODEL@LAYER.
        among: an SQL condition on the columns of `structure` that says which of them may be the
            reference; by default all.
        seed: which compositions calibrate. Another seed or condition than last time's makes a new
            reference, with which all is scored anew.
        renew: make a new reference of all that the store holds now; else what was added since is
            scored by the reference that is there.

        Typicality is not confidence. The scores are in the views `typicality`, `atom_typicality`
        and `disagreement`. To run it again resumes, and does nothing where all is done.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery with too few compositions.
        """
        with self._writing():
            return [
                score_job.score_model(
                    self.catalog, self.vectors, side, among=among, seed=seed, renew=renew
                )
                for side in self._sides(models)
            ]

    def _sides(self, models: Iterable[str]) -> list[ModelLayer]:
        """The models named, or all at their default layers."""
        with self.snapshot() as snapshot:
            names = list(models) or list(snapshot.models) or [""]  # which says that there is none
            return [lookup.model_layer(snapshot, name) for name in names]

    def doctor(self) -> dict[str, Any]:
        """Settle what a killed writer left, compact, and check catalogue against vectors.

        Returns what was settled, and `problems`, a line each (empty when all is well).
        """
        with self._writing() as settled:
            problems = verify(self.catalog, self.vectors)
            if not problems:
                maintain(self.catalog, self.vectors)
        return {**settled, "problems": problems}

    def picture(self, folder: str | Path, *, space: str | None = None) -> list[Path]:
        """Draw the shared space, a panel a model on the same axes, as PNG and HTML with hover.

        Raises: AnchorsNotFound if nothing is projected.
        """
        from platonic_store.plots import space_map

        with self.snapshot() as snapshot:
            return space_map.draw(snapshot, Path(folder), space)

    def report(
        self,
        out: str | Path,
        *,
        models: list[str] | None = None,
        space: str | None = None,
        seed: int = 0,
    ) -> Path:
        """Run the whole study and write it as one HTML page, with its numbers as parquet beside it.

        models: MODEL or MODEL@LAYER each; by default all, at the layers of the space.
        What this store cannot answer, the page says in its place.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound for what is named and not here.
        """
        from platonic_store import report

        with self.snapshot() as snapshot:
            name = self.path.resolve().name
            return report.write(snapshot, name, Path(out), models=models, space=space, seed=seed)

    def _repr_html_(self) -> str:
        """The models of the store, for notebooks."""
        if not self.catalog.path.exists():
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
