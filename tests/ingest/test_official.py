"""Our layers are what the family's own package computes with."""

import numpy as np
import pytest

from platonic_store.runtimes import cards

from ingest import conformance  # isort: skip
from ingest.families import load  # isort: skip


def atoms_of(structure):
    from ase import Atoms

    return Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)


@pytest.mark.parametrize(
    ("name", "modality"),
    [("sevennet-0", None), ("sevennet-l3i5", None), ("sevennet-mf-0-r2scan", "R2SCAN")],
)
@pytest.mark.slow
def test_sevennet_energy_from_our_last_layer(name, modality):
    """The package's own head on our last layer gives its calculator's energy."""
    torch = pytest.importorskip("torch")
    sevenn = pytest.importorskip("sevenn.calculator")
    card = cards.resolve(name)
    model = load(card.as_dict(), "cpu")
    last = max(model.layers)
    for structure in conformance.crystals():
        graph = model.graph(structure)
        data = model._batch([graph])
        data["atom_type"] = data["x"]  # the species, which the readout's shift is chosen by
        data["x"] = torch.from_numpy(model.embed([graph], [last])[last])
        if modality:
            one_hot = dict(model._model.named_children())["one_hot_modality"]
            data = one_hot(data)
        names = list(dict(model._model.named_children()))
        for head in names[names.index(f"{last}_equivariant_gate") + 1 :]:
            if head != "force_output":
                data = dict(model._model.named_children())[head](data)
        atoms = atoms_of(structure)
        atoms.calc = sevenn.SevenNetCalculator(card.loader, device="cpu", modal=modality)
        energy = atoms.get_potential_energy()
        assert data["inferred_total_energy"].item() == pytest.approx(energy, abs=2e-5 * len(atoms))


@pytest.mark.parametrize("name", ["chgnet-0.2.0", "chgnet-0.3.0", "chgnet-r2scan"])
def test_chgnet_features_and_energy(name):
    """Layer 2 is `return_atom_feas`; its own head on our last layer gives its energy."""
    torch = pytest.importorskip("torch")
    chgnet = pytest.importorskip("chgnet.model")
    from pymatgen.io.ase import AseAtomsAdaptor

    card = cards.resolve(name)
    model = load(card.as_dict(), "cpu")
    official = chgnet.CHGNet.load(model_name=card.loader, use_device="cpu", verbose=False)
    for structure in conformance.crystals()[:3]:
        crystal = AseAtomsAdaptor.get_structure(atoms_of(structure))
        wanted = official.predict_structure(crystal, task="e", return_atom_feas=True)
        graph = model.graph(structure)
        layers = model.embed([graph], [2, 3])
        np.testing.assert_allclose(layers[2], wanted["atom_fea"], rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            sites = official.mlp(torch.from_numpy(layers[3]))
            shift = official.composition_model([model._crystal_graph(graph)])
        energy = sites.sum() / len(sites) + shift
        assert energy.item() == pytest.approx(float(wanted["e"]), abs=2e-5)


def test_a_checkpoint_that_the_card_does_not_name_is_refused():
    card = cards.resolve("chgnet-0.3.0").as_dict() | {"checkpoint_sha256": "0" * 64}
    pytest.importorskip("chgnet")
    with pytest.raises(ValueError, match=r"refused to load .*names 0{64}") as refusal:
        load(card, "cpu")
    assert "\n" not in str(refusal.value)
