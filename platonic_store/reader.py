"""`Reader`: all that can be asked of a store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from platonic_store.opened import Opened
from platonic_store.plots import space_map as pictures
from platonic_store.questions import align as alignment
from platonic_store.questions import analogy as analogies
from platonic_store.questions import bias, neighbours, typicality
from platonic_store.questions import similar as search
from platonic_store.questions import stitch as stitching
from platonic_store.questions import stitch_head as heads
from platonic_store.questions import transport as moving
from platonic_store.questions.shared import inputs
from platonic_store.storage.vectors import Level


class Reader(Opened):
    """The questions of a `Store`: each is answered from the last committed state."""

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
        distance: search.Distance = "cosine",
    ) -> pd.DataFrame:
        """The k structures (or, with `site`, atoms) most alike to one.

        query: an id, a file, a pymatgen `Structure`, ASE `Atoms`, or a vector (numpy).
        model: the model that looks at the query; by default the store's first one.
        across: answer from this model's side, through the shared space. The query's own
            structure is then among the candidates: to find it is the test of the space.
        space: a space's id or recipe; by default the newest that holds both models.
        where: an SQL condition on the columns of the `structure` view (and `site`, for atoms);
            exact: k answers wherever k exist.
        distance: of structures, "cosine", 1 − cosine of their atoms' means, or "transport", the
            mean 1 − cosine of their atoms when each is matched at the least cost.

        Atoms stand for all their symmetry-equivalent sites. The frame has rank, distance, id, for
        atoms site_index, element and multiplicity, and all properties.

        Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, AnchorsNotFound,
        InvalidQuery, UnreadableSource.
        """
        query = inputs.met(self.snapshot, query, model, layer)
        with self.snapshot() as snapshot:
            return search.similar(
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
                distance=distance,
            )

    def analogy(
        self,
        expression: str,
        *,
        model: str | None = None,
        layer: int | None = None,
        across: str | None = None,
        space: str | None = None,
        k: int = 10,
        where: str | None = None,
    ) -> pd.DataFrame:
        """The k structures nearest to a sum of structures, e.g. "mp-1 - mp-2 + mp-3".

        A term is an id, a formula (its lowest entry in energy; "all SiO2" is the mean of all), a
        file, or an element to exchange: "CaTiO3 - Ca + Sr". Operators stand between spaces. The
        terms are not among the answers. The other arguments are those of `similar`. That the right
        compound comes first says little: composition alone does that (docs/questions/analogy.md).

        Raises: as `similar`; InvalidQuery for a term that is unknown or missing.
        """
        terms = analogies.met(self.snapshot, expression, model, layer)
        with self.snapshot() as snapshot:
            return analogies.analogy(
                snapshot,
                terms,
                model=model,
                layer=layer,
                across=across,
                space=space,
                k=k,
                where=where,
            )

    def neighbours(
        self,
        *,
        model: str | None = None,
        layer: int | None = None,
        across: str | None = None,
        space: str | None = None,
        k: int = 5,
        level: Level = "structure",
        where: str | None = None,
    ) -> pd.DataFrame:
        """The k nearest of every structure (or atom), exactly, in one go.

        where: an SQL condition on those that answer; all ask. The frame has id, site_index (for
        atoms), rank, neighbour, neighbour_site (for atoms) and distance (1 − cosine).

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery.
        """
        with self.snapshot() as snapshot:
            sides = neighbours.gather(
                snapshot,
                model=model,
                layer=layer,
                across=across,
                space=space,
                level=level,
                where=where,
            )
        return neighbours.compute(sides, k)

    def align(
        self,
        models: Sequence[str] | None = None,
        *,
        space: str | None = None,
        atoms: int = 2000,
        seed: int = 0,
    ) -> pd.DataFrame:
        """How alike models see the same atoms: a row for each pair and measure, with its null.

        models: each `MODEL` or `MODEL@LAYER`; by default all of the store. space: where retrieval
        asks, by default the newest that holds them all. See
        `platonic_store.questions.align.compute` for the frame. That models agree does not say
        that they are right, and no value says anything without its null.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery.
        """
        with self.snapshot() as snapshot:
            seen = alignment.gather(snapshot, models, space=space, atoms=atoms, seed=seed)
        return alignment.compute(seen, seed=seed)

    def transport(
        self, a: str, b: str, *, space: str | None = None, atoms: int = 2000, seed: int = 0
    ) -> pd.DataFrame:
        """What it takes to move one model's atoms onto another's, together and by element.

        a, b: `MODEL` or `MODEL@LAYER`; atoms: of a cloud, at most. See
        `platonic_store.questions.transport.compute` for the frame. The cost is no error of either
        model: where they differ, this does not say who is right.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery.
        """
        with self.snapshot() as snapshot:
            clouds = moving.gather(snapshot, a, b, space=space)
        return moving.compute(clouds, atoms=atoms, seed=seed)

    def transport_distance(
        self,
        a: Any,
        b: Any,
        *,
        model: str | None = None,
        layer: int | None = None,
        across: str | None = None,
        space: str | None = None,
    ) -> float:
        """The mean 1 − cosine of two structures' atoms, matched at the least cost.

        a, b: as the query of `similar`; with `across`, b is as that model sees it.

        Raises: as `similar`.
        """
        one = inputs.met(self.snapshot, a, model, layer)
        other = inputs.met(self.snapshot, b, across or model, None if across else layer)
        with self.snapshot() as snapshot:
            return moving.transport_distance(
                snapshot, one, other, model=model, layer=layer, across=across, space=space
            )

    def stitch(
        self, from_: str, to: str, property: str, *, space: str | None = None, seed: int = 0
    ) -> pd.DataFrame:
        """What `to`'s readout of a property makes of the structures as `from_` sees them.

        A ridge regression learns a numeric property of the `structure` view from `to`'s coordinates
        in a shared space, and is fed with `from_`'s, which it has never seen. Each is a model, or
        MODEL@LAYER. Beside it: both models' own readouts, one of composition alone, the mean. All
        read compositions that they were not trained on; those of the anchors are trained on only.
        The frame has way, readout, fed, r2 between low and high (95 %, resampling compositions),
        mae in the property's unit, ratio (r2 over that of `to`'s own), n_train, n_test, folds. A
        high ratio says that both models know the same of the property, not that either is right.

        Raises: InvalidQuery for a property that is no number, ModelNotFound, LayerNotFound,
        AnchorsNotFound.
        """
        with self.snapshot() as snapshot:
            gathered = stitching.gather(snapshot, from_, to, property, space=space)
        return stitching.compare(gathered, seed=seed)

    def stitch_head(
        self, from_: str, to: str, *, space: str | None = None, seed: int = 0
    ) -> pd.DataFrame:
        """The energy that `to`'s own head gives when fed with `from_`'s view of the atoms.

        `from_`'s coordinates are decoded to `to`'s last layer by what both are at the anchors.
        Beside it: `to`'s own coordinates decoded, its own features (its energy, which all are
        compared with), the mean features of the atom's element, and of all. Up to 2,000 structures
        whose compositions hold no anchor; mae in eV an atom. Much of an energy is the element's
        alone, so read r2 beside that of `element`.

        Raises: as `stitch`; InvalidQuery if the head reads more than an atom's last layer.
        """
        with self.snapshot() as snapshot:
            gathered = heads.gather(snapshot, from_, to, space=space, seed=seed)
        return heads.compare(gathered, seed=seed)

    def outliers(
        self,
        *,
        model: str | None = None,
        layer: int | None = None,
        k: int = 20,
        level: Level = "structure",
    ) -> pd.DataFrame:
        """The k least typical structures (or, with level "atom", atoms) to a model's eye.

        Typicality is not confidence. The frame has rank, the columns of `typicality` and those of
        the `structure` view. Scores that `score` stored are read, others computed.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery with too few compositions.
        """
        rows = self.typicality(model=model, layer=layer, level=level)
        with self.snapshot() as snapshot:
            return typicality.described(snapshot, typicality.outliers(rows, k))

    def typicality(
        self,
        query: Any = None,
        *,
        model: str | None = None,
        layer: int | None = None,
        level: Level = "structure",
    ) -> pd.DataFrame:
        """How unlike what a model has seen here structures (or their atoms) look to it.

        query: an id, a list of ids, a file, a pymatgen `Structure` or ASE `Atoms`; None means all.

        The rows are those of the SQL views `typicality` and `atom_typicality`: atypicality, its
        conformal p-value, and the typical atom that is most alike, of other compositions all.
        Typicality is not confidence. See docs/questions/typicality.md.

        Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, InvalidQuery with too
        few compositions, UnreadableSource.
        """
        if query is not None and not isinstance(query, list):
            query = inputs.met(self.snapshot, query, model, layer)
        with self.snapshot() as snapshot:
            waiting = typicality.gather(snapshot, query, model=model, layer=layer, level=level)
        return typicality.judge(waiting, level)

    def disagreement(self, *, k: int = 20) -> pd.DataFrame:
        """The k structures on whose typical neighbours the models, by `score`, agree least.

        The frame has rank, the columns of the view `disagreement` and those of `structure`: `p`,
        the consensus of all models, and `disagreement`, by the atom `site_index`. Typicality is not
        confidence, and neither is agreement.

        Raises: InvalidQuery if fewer than two models have judged the store.
        """
        with self.snapshot() as snapshot:
            return typicality.described(snapshot, typicality.disagreement(snapshot, k))

    def bias(
        self,
        model: str | None = None,
        *,
        by: Sequence[str] = bias.BY,
        k: int = 10,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Elements, groups, symmetries and dimensionalities where a model differs from all others.

        model: `MODEL` or `MODEL@LAYER`. It compares the k nearest of each of at most 5,000
        structures. To differ is not to be wrong: the others may share an error. See
        `platonic_store.questions.bias.bias` for the columns.

        Raises: ModelNotFound, LayerNotFound, InvalidQuery if there is no other model.
        """
        with self.snapshot() as snapshot:
            compared = bias.gather(snapshot, model, seed=seed)
        return bias.bias(compared, by=by, k=k, seed=seed)

    def merged(self, model: str | None = None, *, k: int = 20, seed: int = 0) -> pd.DataFrame:
        """The k pairs of structures that a model merges and every other model tells apart.

        See `platonic_store.questions.bias.merged` for the columns.

        Raises: as `bias`.
        """
        with self.snapshot() as snapshot:
            compared = bias.gather(snapshot, model, seed=seed)
        return bias.merged(compared, k=k)

    def picture(self, folder: str | Path, *, space: str | None = None) -> list[Path]:
        """Draw the shared space, a panel a model on the same axes, as PNG and HTML with hover.

        Raises: AnchorsNotFound if nothing is projected.
        """
        with self.snapshot() as snapshot:
            return pictures.draw(snapshot, Path(folder), space)

    def report(
        self,
        out: str | Path,
        *,
        models: list[str] | None = None,
        space: str | None = None,
        seed: int = 0,
    ) -> Path:
        """Run the whole study and write it as one HTML page, with its numbers as parquet beside it.

        models: `MODEL` or `MODEL@LAYER` each; by default all, at the layers of the space.
        What this store cannot answer, the page says in its place.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound for what is named and not here.
        """
        from platonic_store import report

        return report.write(self, Path(out), models=models, space=space, seed=seed)
