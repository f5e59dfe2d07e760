"""Candidates against another store, and with forces."""

import pandas as pd
import pytest

MODEL = "sevennet-0"


def test_another_store_may_be_what_is_known(prototypes, prototypes_path):
    """The same store as a reference: all candidates are in it, and none is left out."""
    ids = ["Rutile", "Spinel", "Fluorite"]
    own = prototypes.screen(ids, models=[MODEL]).set_index("candidate").loc[ids]
    other = prototypes.screen(ids, models=[MODEL], reference=str(prototypes_path))
    other = other.set_index("candidate").loc[ids]
    assert other["duplicate_of"].tolist() == ids
    assert other["class"].eq("redundant").all()
    assert own["p"].tolist() == pytest.approx(other["p"].tolist(), abs=0.02)
    assert own["nearest_id"].tolist() == other["nearest_id"].tolist()
    limits = prototypes.screen_limits(models=[MODEL], reference=str(prototypes_path))
    pd.testing.assert_frame_equal(limits, prototypes.screen_limits(models=[MODEL]))
