from metatomic_ase import MetatomicCalculator

from ingest.calculators import CalculatorModel, metatomic_features


def load(card, device):
    calculator = MetatomicCalculator(card["checkpoint"], device="cpu")
    features = metatomic_features(calculator, {0: "feature"})
    return CalculatorModel(card, calculator, features, ["torch", "metatomic-torch"])
