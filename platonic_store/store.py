"""`Store`: what a user holds. Its questions are in `questions/`, its jobs in `jobs/`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, get_args

import pyarrow as pa

from platonic_store import questions
from platonic_store.errors import (
    Call,
    InvalidQuery,
    StoreNotFound,
    StoreNotWritable,
)
from platonic_store.methods import Questions
from platonic_store.questions.shared.declaration import Question, asked_of
from platonic_store.storage import legacy, lookup
from platonic_store.storage.layout import Level, StoreDtype
from platonic_store.storage.locate import locate
from platonic_store.storage.location import Location
from platonic_store.storage.reader import Reader
from platonic_store.storage.snapshot import ModelLayer, Snapshot

# Jobs are imported by the methods that begin them: a query need not wait for what they need.
if TYPE_CHECKING:
    import pandas as pd

    from platonic_store.annotation.annotate import AnnotationReport
    from platonic_store.explorer.notebook import Shown
    from platonic_store.jobs.anchors import AnchorSet
    from platonic_store.jobs.map import Mapped
    from platonic_store.jobs.project import Projected
    from platonic_store.jobs.reading import SourceReport
    from platonic_store.jobs.runs import RunReport
    from platonic_store.jobs.thin import Thinned
    from platonic_store.questions.shared.references import Scored
    from platonic_store.runtimes.preparation import ByName
    from platonic_store.storage.writer import Writer

P = ParamSpec("P")
R = TypeVar("R")


class Store(Questions):
    """A store of embeddings: snapshots of a DuckDB catalogue and Lance vector tables, on a
    disk or an object store.

    ```python
    store = Store.open("crystals.store")
    store.ingest("mp20.csv.gz", models=["sevennet-0", "chgnet-0.3.0"])
    store.select_anchors()
    store.project()
    store.similar("mp-1234", across="chgnet-0.3.0", where="band_gap > 1")
    ```
    """

    def __init__(
        self,
        location: Location,
        *,
        at: int | None = None,
        read_only: bool = False,
        references: Mapping[str, Snapshot] | None = None,
    ):
        self.location = location
        self.at = at
        self.read_only = read_only or at is not None or not location.writable
        self._reader = Reader(location, at, references=references)

    @classmethod
    def open(
        cls,
        uri: str | Path,
        *,
        at: int | None = None,
        read_only: bool = False,
        storage_options: Mapping[str, str] | None = None,
        references: Mapping[str, str] | None = None,
    ) -> "Store":
        """The store at a path or URL, which the first ingest makes if there is none.

        uri: a folder, `s3://bucket/name` (or gs://, az://), or for reading alone http(s):// of a
            published store or of a service (`platonic-store serve`), which answers for its store.
        at: the number of an earlier snapshot; every question is answered as it was then.
        read_only: refuse every job that writes.
        storage_options: for an object store, as of obstore, for example `aws_endpoint`; by default
            from the environment. For a service `token`, by default PLATONIC_STORE_TOKEN.
        references: other stores by path or URL, under the names by which SQL, and a service of
            this store, may ask `coverage` and `typicality` against them. They are read as they
            are now.

        Raises: StoreNotFound if `uri` is something else; SnapshotNotFound; StoreTooNew;
        StoreUnreachable.
        """
        location = locate(uri, storage_options)
        if location.uri.startswith("http"):
            from platonic_store.service_store import at_service

            if (of_service := at_service(location, storage_options, at)) is not None:
                if references:
                    raise InvalidQuery(
                        f"{uri} is a service, which has references of its own",
                        "ask by the names that its owner gave",
                    )
                return of_service
        named = None
        if references:
            from platonic_store.questions.shared.reference_stores import open_named

            named = open_named(references)
        store = cls(location, at=at, read_only=read_only, references=named)
        if location.folder is not None:
            _require_folder(location.folder)
        if at is not None:
            store.snapshot()
        return store

    if not TYPE_CHECKING:  # or type checkers would take any name for an attribute

        def __getattr__(self, name: str) -> Callable[..., Any]:
            """A question that another package, or this process, has added."""
            if name.startswith("_") or name not in questions.names():
                raise AttributeError(f"a store has no attribute {name!r}")
            return asked_of(self, questions.get(name))

    def answer(self, question: Question[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The answer of a declared question; what a method of its name gives.

        A frame has the number of the newest snapshot, which was asked, in `attrs["snapshot"]`.

        Raises: what the question raises, and as `snapshot`.
        """
        snapshot = self.snapshot()
        found: Any = question(snapshot, *args, **kwargs)
        if not question.is_value:
            found.attrs["snapshot"] = snapshot.id
        return cast("R", found)

    def answer_in_parts(
        self, question: Question[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Iterator[pa.Table]:
        """The answer of a declared question as Arrow tables: of `neighbours` some rows at a time,
        in bounded memory, of any other question one.

        The metadata of their schema are what a frame has in `attrs`, as text.

        Raises: as `answer`, when they are asked for.
        """
        snapshot = self.snapshot()
        for part in question.parts(snapshot, *args, **kwargs):
            known = part.schema.metadata or {}
            yield part.replace_schema_metadata({**known, b"snapshot": str(snapshot.id)})

    def write_answer(
        self, path: str | Path, question: Question[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Path:
        """Write the answer of a declared question to a Parquet file; returns its path.

        ```python
        store.write_answer("near.parquet", Store.neighbours, level="atom", k=10)
        ```

        Memory is bounded as of `answer_in_parts`, and the file has its name once it is complete.

        Raises: as `answer`; StoreNotWritable where the disk is full or the folder read-only.
        """
        from platonic_store.exports import parquet

        parquet.write(self.answer_in_parts(question, *args, **kwargs), Path(path))
        return Path(path)

    @property
    def references(self) -> dict[str, Snapshot]:
        """The stores that SQL and a service may compare with, by name."""
        return self._reader.references

    @property
    def path(self) -> Path:
        """The folder of a store that is on a disk."""
        if self.location.folder is None:
            raise InvalidQuery(f"{self.location.uri} is not on a disk of this machine")
        return self.location.folder

    def snapshot(self) -> Snapshot:
        """The newest snapshot (or the one that the store was opened at), for several questions
        that must see the same one.

        Raises: StoreNotFound if nothing was ever ingested; StoreDamaged; StoreUnreachable.
        """
        folder = self.location.folder
        if folder is not None and legacy.is_legacy(folder):
            with self._writing("take over a store of version 0.1"):
                pass
        return self._reader.snapshot()

    @contextmanager
    def _writing(self, change: str, *, create: bool = False) -> "Iterator[Writer]":
        """The one writer. change: what it does, for the list of snapshots."""
        from platonic_store.storage.log import logged
        from platonic_store.storage.write_session import writing_to

        self._require_writable()
        folder = self.location.folder
        if not create and not (folder and legacy.is_legacy(folder)):
            self._reader.snapshot()
        log = logged(folder) if folder is not None else nullcontext()
        with log, writing_to(self._reader, change) as writer:
            yield writer

    def _require_writable(self) -> None:
        uri = self.location.uri
        if not self.location.writable:
            raise StoreNotWritable(
                f"{uri} is a web server, which can only be read",
                "open the place that it was published from",
            )
        if self.at is not None:
            raise StoreNotWritable(
                f"{uri} was opened at snapshot {self.at}, which never changes",
                "open its newest snapshot",
            )
        if self.read_only:
            raise StoreNotWritable(f"{uri} was opened read-only", "open it for writing")

    def sql(
        self,
        query: str,
        *,
        variables: Mapping[str, object] | None = None,
        allow_files: bool = False,
    ) -> "pd.DataFrame":
        """Run read-only SQL over the views and functions of the store; see docs/sql.md.

        query: SQL, or `@name` of the cookbook; see docs/cookbook.md.
        variables: what `getvariable('name')` gives in the query, as text.

        It reaches nothing outside the store unless `allow_files`.

        Raises: InvalidQuery with what DuckDB says.
        """
        table = self.sql_arrow(query, variables=variables, allow_files=allow_files)
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def sql_arrow(
        self,
        query: str,
        *,
        variables: Mapping[str, object] | None = None,
        allow_files: bool = False,
    ) -> pa.Table:
        """Like `sql`, as an Arrow table."""
        from platonic_store import sql

        if not allow_files:
            return sql.run(self.snapshot(), query, variables=variables)
        snapshot = self._reader.open(self.snapshot().manifest, allow_files=True)
        return sql.run(snapshot, query, variables=variables, allow_files=True)

    def init_sql(self) -> str:
        """A script with which the plain `duckdb` client opens this store."""
        from platonic_store import sql

        return sql.init_script(self.snapshot(), self.location)

    def embeddings(
        self, model: str | None = None, *, level: Level = "atom", space: str | None = None
    ) -> pa.Table:
        """A model's embeddings (or, with `space`, coordinates) as an Arrow table with their keys.

        model: MODEL or MODEL@LAYER, in a space also MODEL@0+1.
            `platonic_store.arrow.vector_matrix(table["vector"])` gives (n, dim) float32.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound.
        """
        from platonic_store.arrow import vector_array

        snapshot = self.snapshot()
        side = lookup.model_layer(snapshot, model)
        if space is not None:
            space = lookup.space(snapshot, space, [side.model])
            side = lookup.side_in(snapshot, space, model)
        points = snapshot.points(lookup.vector_table(snapshot, side, level, space))
        vectors = vector_array(points.vectors)
        return points.keys.append_column("vector", vectors)

    def find_similar(self, structure_or_mpid: Any, top: int | None = 50) -> list[dict[str, Any]]:
        """The structures most alike to one, as mp-api's `find_similar` gives them.

        structure_or_mpid: as `similar` takes it. top: how many; None for 10,000.

        Returns a dict each: `material_id` (`task_id` is the same), `formula`, `nelements` and
        `dissimilarity` in percent, 0 for what the model cannot tell apart: 100 × (1 − cosine) of
        the embeddings of the store's first model. The Materials Project's is of CrystalNN
        fingerprints: the order means the same, the numbers cannot be compared.

        Raises: as `similar`.
        """
        found: Any = self.similar(structure_or_mpid, k=10_000 if top is None else top)
        return [
            {
                "material_id": row.structure_id,
                "task_id": row.structure_id,
                "formula": row.formula,
                "nelements": int(row.nelements),
                "dissimilarity": 100 * float(row.distance),
            }
            for row in found.itertuples()
        ]

    def ingest(
        self,
        source: Any = None,
        models: list[str] | tuple[str, ...] = (),
        *,
        layers: str = "default",
        outputs: str = "",
        format: str | None = None,
        python: "ByName" = None,
        checkpoint: "ByName" = None,
        trust: Iterable[str] = (),
        device: str = "auto",
        batch_atoms: int | None = None,
        store_dtype: StoreDtype | None = None,
        ray: str | None = None,
        num_cpus: int | None = None,
        num_gpus: float | None = None,
    ) -> "tuple[SourceReport | None, list[RunReport]]":
        """Read structures, and embed with each model those that it has not embedded yet.

        source: a path (file or folder), `builtin:aflow-prototypes`, or pymatgen `Structure` and
            ASE `Atoms` objects, one or many, or a dict of them by id; None means all that the
            store holds already.
        layers: "default" (the card's, and the set that spaces take), "first", "last", "all", or
            indices such as "0,2".
        outputs: "energy" or "energy,forces": the model's predictions too, by the same forward pass;
            structures that are embedded already get what they lack. In the views `prediction` and
            `atom_prediction`, and what `committee` compares.
        python: an interpreter that has the model's packages, or a dict of them by family; by
            default this one if it fits, else an environment that is made for the family.
        checkpoint: weights of the user's own, or a dict of them by model.
        trust: SHA-256 sums of weights that may be loaded though no card names them.
        batch_atoms: atoms in one forward; by default what suits the device.
        store_dtype: the precision in which vectors are stored, "float32" or "float16", of models
            and layers that are new to the store; by default float32. It never changes.
        ray: a Ray cluster that does the work: "auto" (the one that this machine belongs to), its
            address, or "local" (one of this machine, for the time being). See docs/cluster.md.
        num_cpus: of the cluster, cores that one actor takes, and its worker processes; default 1.
        num_gpus: of the cluster, GPUs that one actor takes; default none.

        To run it again resumes, and does nothing where all is done. What cannot be read or
        embedded goes to the `quarantine` view with its reason.

        Raises: UnreadableSource, ConflictingStructure, ModelNotFound, LayerNotFound, InvalidQuery,
        LicenceNotAccepted, WeightsNotFound, EnvironmentNotReady, WorkerFailed, CheckpointMismatch,
        StoreBusy, StoreNotWritable, ClusterNotReady.
        """
        from platonic_store.engines.cluster import joined, named
        from platonic_store.runtimes.cards import layers_wanted, outputs_wanted, resolve
        from platonic_store.runtimes.forkserver import servers_ahead
        from platonic_store.runtimes.preparation import prepare, prepare_elsewhere
        from platonic_store.structures import describe

        self._require_writable()
        if store_dtype not in (None, *get_args(StoreDtype)):
            raise InvalidQuery(f"{store_dtype} is no precision", "say float32, or float16")
        for name in models:
            layers_wanted(resolve(name), layers)
            outputs_wanted(resolve(name), outputs)
        cluster = named(ray, num_cpus, num_gpus)
        ready = (prepare if cluster is None else prepare_elsewhere)(
            models, python=python, checkpoint=checkpoint, trust=trust
        )
        change = " ".join(["ingest", *([] if source is None else [describe(source)]), *models])
        with (
            joined(cluster),
            servers_ahead(ready, device) as servers,
            self._writing(change, create=source is not None) as writer,
        ):
            # They take long, while the servers import.
            from platonic_store.jobs import ingest, turns

            asked = turns.Asked(layers, outputs, device, batch_atoms, store_dtype, cluster)
            return ingest.ingest(writer, source, format, servers, asked)

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
        within: float = 0.005,
        reference: str | None = None,
    ) -> "AnnotationReport":
        """Write into the records of a user's own file or database what the store says of them.

        target: csv, parquet, extxyz, an ASE db, pymatgen JSON, or `URL#table` (or URL and `table`)
            of a database; in place unless `out` names a copy. See docs/questions/annotate.md for
            the columns.
        models: MODEL or MODEL@LAYER; by default all that are here but the controls.
        id: the column (or key) that names the structures; by default the first usual name.
        by_id: match records by their ids alone and embed nothing. Otherwise a record that has a
            structure is matched by its content, and ingested where the store lacks it.
        k: how many neighbours. within: the distance of near duplicates, as of
            `near_duplicates`.
        reference: a store of what the models were trained on, by path or URL: adds whether it
            covers each structure.

        The same call again changes nothing, and goes on where it was stopped. Typicality is not
        confidence.

        Raises: InvalidTarget, and what `ingest` raises.
        """
        from platonic_store.annotation.annotate import annotate

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
            reference=reference,
        )

    def delete(self, structure_ids: list[str]) -> None:
        """Delete structures with all their embeddings.

        Raises: StructureNotFound; InvalidQuery if one holds an anchor (anchor sets are immutable).
        """
        from platonic_store.storage.deletions import delete_structures

        with self._writing(f"delete {len(structure_ids)} structures") as writer:
            snapshot = writer.snapshot()
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
            delete_structures(writer, structure_ids)

    def select_anchors(
        self,
        method: str = "random",
        k: int | None = None,
        *,
        model: str | None = None,
        seed: int = 0,
        file: str | Path | None = None,
    ) -> "AnchorSet":
        """Choose and keep k anchor atoms; by default a third of the distinct ones, 8,192 at most.

        What a model has in quarantine holds none, unless it refuses more than half of the store.

        method: "random", "direct" (DIRECT sampling, the same for the same atoms in any order),
            "maml" (as the maml package chooses) or "farthest"; or a `file` that lists them.
        model: MODEL or MODEL@LAYER in whose embeddings they are chosen.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery, StructureNotFound.
        """
        from platonic_store.jobs import anchors

        with self._writing("select anchors") as writer:
            snapshot = writer.snapshot()
            if file is not None:
                chosen, origin = anchors.anchors_from_file(snapshot, Path(file))
            else:
                side = lookup.model_layer(snapshot, model)
                chosen, origin = anchors.select_anchors(snapshot, method, k, side, seed)
            anchors.save_anchors(writer, chosen, origin)
        return chosen

    def project(
        self,
        models: list[str] | tuple[str, ...] = (),
        *,
        recipe: str | None = None,
        anchors: str | None = None,
        ray: str | None = None,
    ) -> "list[Projected]":
        """Bring models (all, if none is named) up to date in the space of a recipe and anchors.

        models: each MODEL, MODEL@LAYER or, of several layers side by side, MODEL@0+1. Of the others
            a new "aligned" space takes one layer or the card's default set, whichever finds more
            of the anchors held out. If none is named, one that lacks anchors is left out with a
            remark.
        recipe: "cosine", "centred", "whitened" or "aligned"; by default "aligned", where two
            trained models have embedded the anchors, else "whitened". "alone": a space that only
            the models named agree on; questions use it where they name it.
        anchors: an anchor set's id or its beginning; by default the newest set.
        ray: a Ray cluster that computes the coordinates, as of `ingest`.

        Raises: AnchorsNotFound, ModelNotFound, LayerNotFound, InvalidQuery, ClusterNotReady.
        """
        from platonic_store.engines.cluster import joined, named
        from platonic_store.jobs import project as job
        from platonic_store.jobs.space import open_space

        cluster = named(ray)
        with self._writing(" ".join(["project", *models])) as writer:
            _sides(writer.snapshot(), models)
            with joined(cluster):
                space = open_space(writer, recipe, anchors, models)
                snapshot = writer.snapshot()
                names = list(models) or list(snapshot.models)
                sides = [space.side_of(snapshot, name) for name in names]
                return job.project_models(writer, space, sides, cluster, may_lack=not models)

    def score(
        self,
        models: list[str] | tuple[str, ...] = (),
        *,
        among: str | None = None,
        seed: int | None = None,
        renew: bool = False,
        ray: str | None = None,
    ) -> "list[Scored]":
        """Score how typical each structure looks to models (all, if none is named), and keep it.

        models: each MODEL or MODEL@LAYER.
        among: an SQL condition on the columns of `structure` that says which of them may be the
            reference; by default all.
        seed: which compositions calibrate. Another seed or condition than last time's makes a new
            reference, with which all is scored anew.
        renew: make a new reference of all that the store holds now; else what was added since is
            scored by the reference that is there.
        ray: a Ray cluster that computes the scores, as of `ingest`.

        Typicality is not confidence. The scores are in the views `typicality`, `atom_typicality`
        and `disagreement`. To run it again resumes, and does nothing where all is done.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery with too few compositions,
        ClusterNotReady.
        """
        from platonic_store.engines.cluster import joined, named
        from platonic_store.jobs.score import score_model

        cluster = named(ray)
        with self._writing(" ".join(["score", *models])) as writer:
            sides = _sides(writer.snapshot(), models)
            with joined(cluster):
                return [
                    score_model(writer, side, among=among, seed=seed, renew=renew, cluster=cluster)
                    for side in sides
                ]

    def thin(
        self,
        uri: str | Path,
        models: list[str] | tuple[str, ...] = (),
        *,
        radius: float | None = None,
        keep: float | None = None,
    ) -> "list[Thinned]":
        """Make a reference store of so few of this store's atoms that all others are near one.

        uri: the path or URL of the new store. models: each MODEL or MODEL@LAYER; by default all.
        radius: an atom is kept unless a kept one of its element is within this cosine distance.
        keep: or the share of the distinct atoms to be kept, about; the radius is found by trying.

        What was lost is measured and returned, and kept with the store. `coverage` and
        `typicality` take it as a reference. See docs/questions/coverage.md.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery.
        """
        from platonic_store.jobs.thin import thin

        if (radius is None) == (keep is None):
            raise InvalidQuery(
                "name either a radius or the share to keep", Call("thin", "URI", keep=0.1)
            )
        if not (keep is None or 0 < keep <= 1) or not (radius is None or 0 <= radius < 2):
            raise InvalidQuery("a radius is within [0, 2), a share to keep within (0, 1]")
        snapshot = self.snapshot()
        sides = _sides(snapshot, models)
        with Store.open(uri)._writing(f"thin {self.location.uri}", create=True) as writer:
            return [
                thin(snapshot, self.location.uri, writer, side, radius=radius, keep=keep)
                for side in sides
            ]

    def map(self, *, renew: bool = False, ray: str | None = None) -> "list[Mapped]":
        """Lay all structures and all atoms out on a plane, and keep where each model sees them.

        The layouts, one of structures and one of atoms, are fitted once, to the consensus of the
        trained models in the newest space of the recipe `aligned` (else in the newest space). What
        comes later is placed and moves nothing. See docs/questions/map.md.

        renew: fit again, to all that the store holds now.
        ray: a Ray cluster that places the points, as of `ingest`; the layouts are fitted here.

        The maps are in the views `structure_map` and `atom_map`. To run it again resumes, and does
        nothing where all is done.

        Raises: AnchorsNotFound if nothing is projected; ClusterNotReady.
        """
        from platonic_store.engines.cluster import joined, named
        from platonic_store.jobs.map import map_store

        cluster = named(ray)
        with self._writing("map") as writer, joined(cluster):
            return map_store(writer, renew=renew, cluster=cluster)

    def doctor(self, *, deep: bool = False, repair: bool = False) -> dict[str, Any]:
        """Compact, remove what no snapshot needs, and check that catalogue, rows and vectors agree.

        deep: read every file, and compare it with its checksum.
        repair: delete what is damaged, and embed, project and score it again.

        Returns `problems`, a line each (empty when all is well); `mended`, a line each; `removed`,
        how many files no snapshot needed.

        Raises: StoreDamaged if not even the newest snapshot can be opened.
        """
        from platonic_store.jobs.doctor import examine
        from platonic_store.storage.damage import restore_newest

        restored = restore_newest(self.location) if repair and not self.read_only else []
        with self._writing("doctor") as writer:
            found = examine(writer, deep=deep, repairs=repair)
        return {**found, "mended": [*restored, *found["mended"]]}

    def snapshots(self) -> "pd.DataFrame":
        """The states of the store that are kept, the newest first.

        Returns: snapshot, created_at, change, structures, vectors (rows of all vector tables), MB
        (of all files, which snapshots share), pinned (the note of a pin, else None).

        Raises: as `snapshot`.
        """
        from platonic_store.storage import history

        self.snapshot()
        return history.snapshots(self.location)

    def pin(self, snapshot: int, note: str = "") -> None:
        """Keep a snapshot for ever. Raises: SnapshotNotFound, StoreNotWritable."""
        from platonic_store.storage import history

        self._require_writable()
        history.pin(self.location, snapshot, note)

    def unpin(self, snapshot: int) -> None:
        """Let a pinned snapshot go in its time. Raises: SnapshotNotFound, StoreNotWritable."""
        from platonic_store.storage import history

        self._require_writable()
        history.unpin(self.location, snapshot)

    def copy(self, uri: str | Path, *, storage_options: Mapping[str, str] | None = None) -> int:
        """Copy this store's snapshot to another place, whole and verified.

        Files that are there already are not sent again: the same call resumes, and later brings
        the copy up to date. Returns how many files were sent.

        Raises: StoreNotWritable if another store, or a newer state, is there; StoreDamaged;
        StoreBusy; StoreUnreachable.
        """
        from platonic_store.storage.copying import copy

        target = locate(uri, storage_options)
        if target.folder is not None:
            _require_folder(target.folder)
        return copy(self.location, self.snapshot().manifest, target)

    def picture(self, folder: str | Path, *, space: str | None = None) -> list[Path]:
        """Draw the shared space, a panel a model on the same axes, as PNG and HTML with hover.

        Raises: AnchorsNotFound if nothing is projected.
        """
        from platonic_store.plots import space_map

        return space_map.draw(self.snapshot(), Path(folder), space)

    def report(
        self,
        out: str | Path,
        *,
        models: list[str] | None = None,
        space: str | None = None,
        seed: int = 0,
        reference: str | None = None,
    ) -> Path:
        """Run the whole study and write it as one HTML page, with its numbers as parquet beside it.

        models: MODEL or MODEL@LAYER each; by default all, at the layers of the space.
        reference: a store whose coverage the page shows, by path, URL or name.
        What this store cannot answer, the page says in its place.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound for what is named and not here.
        """
        from platonic_store import report

        name = self.location.uri.rstrip("/").rpartition("/")[2]
        return report.write(
            self.snapshot(),
            name,
            Path(out),
            models=models,
            space=space,
            seed=seed,
            reference=reference,
        )

    def export(self, path: str | Path, *, models: Iterable[str] = ()) -> Path:
        """Write crystals, maps and scores as a file that another tool opens; returns its path.

        path: its name ends in one of `platonic_store.exports.FORMATS`, such as
            `chemiscope.json.gz`; see docs/exports.md.
        models: MODEL or MODEL@LAYER each; by default all on the map, without controls.

        Raises: InvalidQuery for a name of no format, MapNotFound, ModelNotFound, LayerNotFound.
        """
        from platonic_store import exports

        path = Path(path)
        exports.write(self.snapshot(), path, [*models])
        return path

    def explore(self) -> "Shown":
        """Show the explorer: within a notebook, elsewhere in the browser; see docs/explorer.md.

        This process serves it, to this machine alone, until it ends.

        Raises: StoreNotFound.
        """
        from platonic_store.explorer.notebook import explore

        return explore(self)

    def _repr_html_(self) -> str:
        """The models of the store, for notebooks."""
        uri = self.location.uri
        if self._reader.newest_manifest() is None:
            return f"<p>platonic-store at <code>{uri}</code>, nothing ingested yet</p>"
        counts = self.sql(
            "SELECT count(*) AS structures, sum(nsites)::BIGINT AS atoms FROM structure"
        )
        models = self.sql("SELECT name, family, layers, default_layer, structures FROM model")
        n, atoms = counts.iloc[0]
        return (
            f"<p>platonic-store at <code>{uri}</code>: {n:,} structures, {atoms or 0:,} atoms"
            f"</p>{models.to_html(index=False)}"
        )


def _require_folder(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoreNotFound(f"{folder} is a file, a store is a folder", "name a folder")
    is_ours = any((folder / name).exists() for name in ("manifests", "lease", "catalog.duckdb"))
    # A writer that was killed at once leaves these.
    others = {path.name for path in folder.iterdir()} - {"log.txt", "partial"}
    if not is_ours and others:
        raise StoreNotFound(
            f"{folder} is a folder of other things, not a store", "name another folder"
        )


def _sides(snapshot: Snapshot, models: Iterable[str]) -> list[ModelLayer]:
    """The models named, or all at their default layers."""
    names = list(models) or list(snapshot.models) or [""]  # which says that there is none
    return [lookup.model_layer(snapshot, name) for name in names]
