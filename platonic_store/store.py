"""`Store`: the one object that a user holds."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platonic_store.annotation.annotate import AnnotationReport, annotate
from platonic_store.errors import InvalidQuery, StoreNotFound
from platonic_store.jobs import anchors as anchor_sets
from platonic_store.jobs import ingest as ingestion
from platonic_store.jobs import project as spaces
from platonic_store.jobs import score as scoring
from platonic_store.jobs.anchors import AnchorSet
from platonic_store.jobs.ingest import RunReport, SourceReport
from platonic_store.jobs.project import Projected
from platonic_store.questions.shared.references import Scored
from platonic_store.reader import Reader
from platonic_store.runtimes.preparation import ByName, prepare
from platonic_store.storage.commits import maintain
from platonic_store.storage.deletions import delete_structures
from platonic_store.storage.recovery import writer
from platonic_store.storage.verification import verify


class Store(Reader):
    """A store of embeddings: a folder with a DuckDB catalogue and Lance vector tables.

    ```python
    store = Store.open("crystals.store")
    store.ingest("mp20.csv.gz", models=["sevennet-0", "chgnet-0.3.0"])
    store.select_anchors()
    store.project()
    store.similar("mp-1234", across="chgnet-0.3.0", where="band_gap > 1")
    ```
    """

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

        Gives what `recover` had to settle.
        """
        if not create:
            self._require()
        with writer(self.catalog, self.vectors) as settled:
            yield settled

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
            delete_structures(self.catalog, self.vectors, structure_ids)

    def select_anchors(
        self,
        method: str = anchor_sets.DEFAULT_METHOD,
        k: int | None = None,
        *,
        model: str | None = None,
        layer: int | None = None,
        seed: int = 0,
        file: str | Path | None = None,
    ) -> AnchorSet:
        """Choose and keep k anchor atoms; by default a third of the distinct ones, 2,048 at most.

        method: "random", "direct" (DIRECT sampling, the same for the same atoms in any order),
            "maml" (as the maml package chooses) or "farthest"; or a `file` that lists them.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery, StructureNotFound.
        """
        with self._writing():
            with self.snapshot() as snapshot:
                if file is not None:
                    chosen, origin = anchor_sets.anchors_from_file(snapshot, Path(file))
                else:
                    chosen, origin = anchor_sets.select_anchors(
                        snapshot, method, k, model, layer, seed
                    )
            anchor_sets.save_anchors(self.catalog, chosen, origin)
        return chosen

    def project(
        self,
        models: list[str] | tuple[str, ...] = (),
        *,
        recipe: str | None = None,
        anchors: str | None = None,
        layer: int | None = None,
    ) -> list[Projected]:
        """Bring models (all, if none is named) up to date in the space of a recipe and anchors.

        recipe: "cosine", "centred", "whitened" or "aligned"; by default "aligned", where two
            trained models have embedded the anchors, else "whitened".
        anchors: an anchor set's id or its beginning; by default the newest set.

        Raises: AnchorsNotFound, ModelNotFound, LayerNotFound, InvalidQuery.
        """
        with self._writing():
            with self.snapshot() as snapshot:
                names = [snapshot.model(name) for name in models] or snapshot.models()
                if not names:
                    snapshot.model(None)
            space = spaces.open_space(self.catalog, self.vectors, recipe, anchors)
            return [
                spaces.project_model(self.catalog, self.vectors, space, name, layer)
                for name in names
            ]

    def score(
        self,
        models: list[str] | tuple[str, ...] = (),
        *,
        layer: int | None = None,
        among: str | None = None,
        seed: int | None = None,
        renew: bool = False,
    ) -> list[Scored]:
        """Judge how typical each structure looks to models (all, if none is named), and keep it.

        among: an SQL condition on the columns of `structure` that says which of them may be the
            reference; by default all.
        seed: which compositions calibrate. Another seed or condition than last time's makes a new
            reference, with which all is judged anew.
        renew: make a new reference of all that the store holds now; else what was added since is
            judged by the reference that is there.

        Typicality is not confidence. The scores are in the views `typicality`, `atom_typicality`
        and `disagreement`. To run it again resumes, and does nothing where all is done.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery with too few compositions.
        """
        with self._writing():
            with self.snapshot() as snapshot:
                names = [snapshot.model(name) for name in models] or snapshot.models()
                if not names:
                    snapshot.model(None)
            return [
                scoring.score_model(
                    self.catalog,
                    self.vectors,
                    name,
                    layer,
                    among=among,
                    seed=seed,
                    renew=renew,
                )
                for name in names
            ]

    def doctor(self) -> dict[str, Any]:
        """Settle what a killed writer left, compact, and check catalogue against vectors.

        Returns what was settled, and `problems`, a line each (empty when all is well).
        """
        with self._writing() as settled:
            problems = verify(self.catalog, self.vectors)
            if not problems:
                maintain(self.catalog, self.vectors)
        return {**settled, "problems": problems}
