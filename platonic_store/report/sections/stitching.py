"""Stitching: what one model's readout makes of another model's view."""

import pandas as pd

from platonic_store import progress
from platonic_store.errors import Call, InvalidQuery
from platonic_store.plots.figures import heat
from platonic_store.plots.labels import controls_among, label
from platonic_store.questions.shared.properties import numeric_properties
from platonic_store.questions.stitch import stitch
from platonic_store.report.study import Comparison, Figure, Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Stitching"
_FIRST = ("formation_energy_per_atom", "energy_per_atom", "e_above_hull", "band_gap")


def section(snapshot: Snapshot, study: Study) -> Section:
    """A readout of each trained model, fed with the coordinates of every other one."""
    study.sides_in_space(least=2)
    name = _property(snapshot)
    frame = _stitched(snapshot, study, name)
    stitched = frame[frame["way"] == "stitched"]
    own = frame[frame["way"] == "own"].drop_duplicates("fed")
    controls_in = controls_among(stitched, "readout", "fed")
    trained, mixed = stitched[controls_in == 0], stitched[controls_in == 1]
    rest = frame[frame["way"].isin(["composition", "mean"])].groupby("way")["r2"].mean()
    findings, comparisons = [], []
    if len(trained):
        r2 = trained["r2"]
        selves = own.loc[own["fed"].isin(trained["readout"]), "r2"].mean()
        findings.append(
            f"A readout of {name} learned on one trained model and fed with another, unseen, "
            f"reaches R² {r2.mean():.2f} (worst pair {r2.min():.2f}, best {r2.max():.2f}); fed "
            f"with its own model {selves:.2f}; composition alone {rest['composition']:.2f}."
        )
        comparisons.append(
            Comparison(f"stitching {name}, R²", r2.mean(), mixed["r2"].max(), rest["mean"])
        )
    return Section(
        TITLE,
        f"A ridge regression learns {name} from one model's coordinates in {study.space} and is "
        f"fed with another's. It reads {frame['n_test'].max():,} structures, each by a readout "
        f"that was trained on other compositions. For comparison, composition alone reaches an R² "
        f"of {rest['composition']:.2f}.",
        [
            Figure(
                heat(_matrix(stitched, own, study), title="R²"),
                "Down: whose coordinates are fed. Along: whose readout reads them. On the diagonal "
                "each model reads itself.",
                "A high R² says that two models know the same of this property. Much of it is in "
                "the composition, so compare with that. An R² below 0 is shown as 0.",
            ),
            Table(
                frame[["readout", "fed", "way", "r2", "low", "high", "mae", "ratio"]],
                "R² between low and high in 95 of 100 resamples of the compositions; mae in the "
                "property's unit; ratio: R² over that of the readout's own model.",
            ),
        ],
        frames={"stitching": frame},
        caveat="A readout is linear: what it cannot read may be there all the same.",
        findings=findings,
        comparisons=comparisons,
    )


def _property(snapshot: Snapshot) -> str:
    """The numeric property to read: an energy, where there is one.

    Raises: InvalidQuery if the sources brought none.
    """
    own = ("nelements", "nsites", "spacegroup", "volume")
    names = [name for name in numeric_properties(snapshot) if name not in own]
    if not names:
        raise InvalidQuery(
            "the structures came without a numeric property to read, such as "
            "formation_energy_per_atom",
            Call("ingest", "SOURCE"),
        )
    return next((name for name in _FIRST if name in names), names[0])


def _stitched(snapshot: Snapshot, study: Study, name: str) -> pd.DataFrame:
    pairs = [*study.pairs(), *((b, a) for a, b in study.pairs() if b in study.trained)]
    frames = []
    with progress.bar(f"stitching {name}", len(pairs), "pairs") as advance:
        for to, fed in pairs:
            found = stitch(snapshot, str(fed), str(to), name, space=study.space, seed=study.seed)
            frames.append(found.assign(property=name))
            advance(1)
    frame = pd.concat(frames, ignore_index=True)
    return frame.drop_duplicates(["way", "readout", "fed"], ignore_index=True)


def _matrix(stitched: pd.DataFrame, own: pd.DataFrame, study: Study) -> pd.DataFrame:
    both = pd.concat([stitched, own.assign(readout=own["fed"])]).drop_duplicates(["readout", "fed"])
    matrix = both.pivot(index="fed", columns="readout", values="r2").clip(lower=0)
    order = [str(side) for side in study.shared]
    matrix = matrix.reindex(index=order, columns=[str(side) for side in study.trained])
    return matrix.rename(index=label, columns=label)
