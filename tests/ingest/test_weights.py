"""Weights as they really are: saved as their authors save them, out of reach, broken."""

import json
import subprocess
from hashlib import sha256
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import numpy as np
import pytest
from ase.build import bulk

from platonic_store import errors, resources
from platonic_store.runtimes import cards, trust_store
from platonic_store.runtimes.preparation import prepare
from platonic_store.store import Store

# How the authors of a family write a checkpoint, in the family's own interpreter.
SAVE = """
import json, sys
sys.path.insert(0, sys.argv[1])
try:
    import torch
except ImportError:  # GRACE runs on TensorFlow
    pass
from ingest.families import load, part

def lightning(network, configuration):
    # As Lightning saves the module of Chemeleon-DNG around a network.
    from chemeleon_dng.script_util import create_diffusion_module
    more = dict(act_fn="silu", dis_emb="sin", ln=True, ip=True, smooth=False, cond_dim=0)
    optimizer = dict(optimizer="adam", lr=1e-3, weight_decay=0, scheduler="constant", patience=1)
    module = create_diffusion_module(
        task="dng", model_configs=dict(configuration, **more, pred_atom_types=True),
        optimizer_configs=dict(optimizer, early_stopping=1), num_timesteps=8, max_atoms=100,
        beta_schedule_ddpm="cosine", beta_schedule_d3pm="reciprocal", d3pm_hybrid_coeff=0.1,
        sigma_begin=0.005, sigma_end=0.5)
    module.model.load_state_dict(network.state_dict())
    return {"pytorch-lightning_version": "2.6.0", "state_dict": module.state_dict(),
            "hyper_parameters": dict(module.hparams)}

def training(network, made_from, head):
    # As `dp train` saves several heads.
    from deepmd.pt.train.wrapper import ModelWrapper
    heads = {"model_dict": {head: made_from}}
    torch.save({"model": ModelWrapper({head: network}, model_params=heads).state_dict()}, path)

def potential(network):
    from mattersim.forcefield.potential import Potential
    Potential(network, device="cpu").save(path)

def package(network):
    # As `nequip-package build` does: the network and the code of its modules.
    import yaml
    from nequip.scripts._package_utils import _EXTERNAL_MODULES, _INTERNAL_MODULES, _MOCK_MODULES
    about = {"package_version_id": 2, "available_models": ["eager"],
             "atom_types": dict(enumerate(network.type_names))}
    with torch.package.PackageExporter(path) as exporter:
        exporter.mock([f"{name}.**" for name in _MOCK_MODULES])
        exporter.extern([f"{name}.**" for name in _EXTERNAL_MODULES])
        exporter.intern([f"{name}.**" for name in _INTERNAL_MODULES])
        exporter.save_text("model", "package_metadata.txt", yaml.dump(about))
        whole = torch.nn.ModuleDict({"sole_model": network})
        exporter.save_pickle("model", "eager_model.pkl", whole)

def archive(network):
    # As `gracemaker` saves a fit, in an archive as it is published.
    import tarfile, tempfile
    import tensorflow as tf
    from tensorpotential.instructions.base import save_instructions_dict
    with tempfile.TemporaryDirectory() as folder:
        instructions = dict(network.instructions)
        save_instructions_dict(f"{folder}/model.yaml", instructions, network.param_dtype)
        counts = {name: tf.Variable(0, trainable=False) for name in ("step", "epoch")}
        tf.train.Checkpoint(model=network, **counts).write(f"{folder}/checkpoint")
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, "GRACE-1L-OMAT-large-ft-AM")

card, path = json.loads(sys.argv[2]), sys.argv[3]
model = load(card, "cpu")
%s
"""
AUTHORS = {
    "mace-mp-0-small": "torch.save(model.network, path)",
    "mace-omat-0": "torch.save(model.network, path)",
    "mace-mh-1-omat-pbe": "torch.save(model.network, path)",
    "orb-v3-con-omat": "torch.save(model.regressor.state_dict(), path)",
    "orb-v3-dir-omat": "torch.save(model.regressor.state_dict(), path)",
    "control:generative:chemeleon-dng": (
        "torch.save(lightning(model._model, card['architecture']), path)"
    ),
    "nequip-oam-l": "package(part(card, 'official').network(model))",
    "allegro-oam-l": "package(part(card, 'official').network(model))",
    "pet-omat-xs": "torch.save(model.network.get_checkpoint(), path)",
    "esen-sm-conserving-omol": "torch.save(part(card, 'official').checkpoint(model), path)",
    "matris-10m-oam": (
        "weights = model.network.state_dict(); "
        "torch.save({'config': model.network.config, 'state_dict': weights}, path)"
    ),
    "mattersim-v1-1m": "potential(model.network)",
    "grace-1l-oam-l": "archive(model.network)",
    "dpa-3.1-3m": "training(model.network, model.made_from, card['modality'])",
    "dpa-3.1-mptrj": "torch.jit.script(model.network).save(path)",  # as `dp freeze` does
}
PAPER = {
    "MACE-MP-0-small": "mace-mp-0-small",
    "MACE-MP-0-medium": "mace-mp-0-medium",
    "MACE-MP-0-large": "mace-mp-0-large",
    "MACE-omat": "mace-omat-0",
    "Seven-omat": "sevennet-omat",
    "Orb-v3-con-omat": "orb-v3-con-omat",
    "Orb-v3-dir-omat": "orb-v3-dir-omat",
}


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and a machine that has no weights yet."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))


def saved(name: str, path: Path) -> str:
    """The model with the random weights of seed 3, as its authors would publish it; its SHA-256."""
    ((card, python),) = prepare([f"control:random:{name}:3"])
    ingest = str(resources.folder("ingest").parent)
    subprocess.run(
        [
            python,
            "-W",
            "ignore",
            "-c",
            SAVE % AUTHORS[name],
            ingest,
            json.dumps(card.as_dict()),
            path,
        ],
        check=True,
    )
    return sha256(path.read_bytes()).hexdigest()


def published_name(name: str) -> str:
    """What its authors call the file: packages go by it."""
    url, *_ = (*cards.resolve(name).downloads, "checkpoint.pt")
    return PurePosixPath(urlparse(url).path).name


@pytest.mark.models
@pytest.mark.parametrize("name", AUTHORS)
def test_a_checkpoint_saved_as_its_authors_save_it(name, tmp_path, own_trust_store):
    """Its file gives the numbers that the network had which was saved."""
    path = tmp_path / published_name(name)
    digest = saved(name, path)
    store = Store.open(tmp_path / "its.store")
    if cards.resolve(name).license.get("restriction"):
        with pytest.raises(errors.LicenceNotAccepted):
            store.ingest("builtin:aflow-prototypes", [name], checkpoint=path, trust=[digest])
        trust_store.accept_licence(name)
    with pytest.raises(errors.CheckpointMismatch, match=digest):
        store.ingest(few(), [name], checkpoint=path)
    drawn = f"control:random:{name}:3"
    store.ingest(few(), [name, drawn], checkpoint={name: path}, trust=[digest])
    one, other = (store.embeddings(model).to_pydict() for model in (name, drawn))
    assert one["structure_id"] == other["structure_id"]
    assert np.array_equal(one["vector"], other["vector"])
    _, runs = store.ingest(few(), [name])
    assert [run.structures for run in runs] == [0], "where the weights lie is remembered"


def few():
    return {"salt": bulk("NaCl", "rocksalt", a=5.64), "copper": bulk("Cu"), "ice": bulk("Si")}


@pytest.mark.models
@pytest.mark.parametrize("name", ["sevennet-0", "chgnet-0.3.0", *AUTHORS])
def test_a_corrupt_checkpoint_is_one_line(name, tmp_path, own_trust_store):
    """Trusted by its hash, and yet no checkpoint."""
    trust_store.accept_licence(name)
    path = tmp_path / published_name(name)
    path.write_bytes(np.random.default_rng(0).bytes(10_000))
    with pytest.raises(errors.WorkerFailed, match=f"{name} cannot start: ") as failure:
        Store.open(tmp_path / "its.store").ingest(
            few(), [name], checkpoint=path, trust=[sha256(path.read_bytes()).hexdigest()]
        )
    assert "\n" not in str(failure.value)


@pytest.mark.models("nequip")
def test_a_compiled_model_is_refused(tmp_path, own_trust_store):
    """Compiled, it gives no features."""
    path = tmp_path / "model.nequip.pt2"
    path.write_bytes(b"not read")
    with pytest.raises(
        errors.WorkerFailed, match="is compiled and gives energies and forces alone"
    ):
        Store.open(tmp_path / "its.store").ingest(
            few(),
            ["nequip-oam-l"],
            checkpoint=path,
            trust=[sha256(path.read_bytes()).hexdigest()],
        )


@pytest.mark.parametrize(("alias", "name"), PAPER.items())
def test_the_papers_models_out_of_reach(alias, name, offline, own_trust_store, tmp_path):
    """All seven resolve; without their weights the error says which file, from where, to where."""
    card = cards.resolve(alias)
    assert card.name == name
    trust_store.accept_licence(name)
    with pytest.raises(errors.WeightsNotFound) as error:
        Store.open(tmp_path / "its.store").ingest(few(), [alias])
    text = str(error.value)
    assert "\n" not in text
    for said in (*card.downloads, card.checkpoint_sha256 or "not known"):
        assert said in text
    assert str(tmp_path / "cache") in error.value.hint[0]
    assert not (tmp_path / "its.store").exists(), "nothing was begun"
