from chgnet.model.dynamics import CHGNetCalculator
from pymatgen.io.ase import AseAtomsAdaptor

from ingest.calculators import CalculatorModel


def load(card, device):
    calculator = CHGNetCalculator(use_device="cpu", on_isolated_atoms="error")

    def features(atoms):
        crystal = AseAtomsAdaptor.get_structure(atoms)
        found = calculator.model.predict_structure(crystal, task="e", return_atom_feas=True)
        return {2: found["atom_fea"]}

    weights = calculator.model.state_dict()
    return CalculatorModel(card, calculator, features, ["torch", "chgnet"], weights)
