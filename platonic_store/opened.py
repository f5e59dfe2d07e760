"""`Opened`: a store as it lies there, for those who read its data themselves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store import sql as sql_front_end
from platonic_store.errors import StoreNotFound
from platonic_store.questions.shared import inputs
from platonic_store.storage.catalog import Catalog
from platonic_store.storage.snapshot import Snapshot, newest, take
from platonic_store.storage.vectors import Level, Vectors, vector_array


class Opened:
    """A store's data: its last committed state, in SQL, as Arrow and numpy."""

    def __init__(self, path: Path):
        self.path = path
        self.catalog = Catalog(path / "catalog.duckdb")
        self.vectors = Vectors(path / "vectors")
        self._is_known = False

    def snapshot(self) -> Snapshot:
        """The last committed state, for several queries that must see the same one.

        Raises: StoreNotFound if nothing was ever ingested.
        """
        self._require()
        return newest(self.catalog, self.vectors)

    def _require(self) -> None:
        self._is_known = self._is_known or self.catalog.revision() is not None
        if not self._is_known or not self.catalog.path.exists():
            raise StoreNotFound(
                f"there is no store at {self.path}: run `platonic-store ingest SOURCE "
                f"--model sevennet-0 --store {self.path}`"
            )

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
        return self.sql_arrow(query, variables=variables, allow_files=allow_files).to_pandas()

    def sql_arrow(
        self,
        query: str,
        *,
        variables: Mapping[str, object] | None = None,
        allow_files: bool = False,
    ) -> pa.Table:
        """Like `sql`, as an Arrow table."""
        self._require()
        with take(self.catalog, self.vectors, allow_files=allow_files) as snapshot:
            return sql_front_end.run(snapshot, query, variables=variables, allow_files=allow_files)

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

        `platonic_store.storage.vectors.vector_matrix(table["vector"])` gives (n, dim) float32.

        Raises: ModelNotFound, LayerNotFound, AnchorsNotFound.
        """
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
        query = inputs.met(self.snapshot, query, model, layer)
        with self.snapshot() as snapshot:
            return inputs.vector(snapshot, query, model=model, layer=layer, space=space, site=site)

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
