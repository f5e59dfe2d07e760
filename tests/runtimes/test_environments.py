"""Environments: which interpreter, made once, whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from platonic_store import errors, models, resources
from platonic_store.runtimes import (
    cards,
    environments,
    installation,
    installers,
    locks,
    torch_builds,
)
from platonic_store.runtimes.environments import Environment
from platonic_store.runtimes.interpreters import interpreter

COMMAND = [str(Path(sys.executable).with_name("platonic-store"))]


@pytest.fixture
def wheelhouse(tmp_path, monkeypatch):
    """pip finds a package here that is nowhere else: `tiny-potential` 1.0."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = "tiny_potential-1.0.dist-info"
    files = {
        "tiny_potential.py": "ANSWER = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-potential\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / "tiny_potential-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name, text)
    known = os.environ.get("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{known} {folder}".strip())
    return folder


TINY = {"requires": ["tiny-potential==1.0", "numpy"], "size_gb": 0.3}


def ingest(store) -> list[str]:
    return [*COMMAND, "ingest", "builtin:aflow-prototypes", "--model", "tiny-1",
            "--store", str(store)]  # fmt: skip


def embedded(store) -> int:
    query = "SELECT structures FROM model"
    done = subprocess.run(
        [*COMMAND, "sql", query, "--store", str(store), "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)[0]["structures"]


def test_the_users_own_interpreter_and_the_current_one(family, tmp_path):
    lacking = family({"requires": ["numpy==0.1"]})
    assert str(interpreter(lacking, sys.executable)) == sys.executable
    assert environments.state(lacking) == "0.3 GB, made on first use"
    with pytest.raises(errors.EnvironmentNotReady, match="is not a Python interpreter"):
        interpreter(lacking, tmp_path / "python")
    fitting = family({"requires": ["numpy>=2"]})
    assert str(interpreter(fitting)) == sys.executable
    assert environments.state(fitting) == "this Python"


def test_another_specification_is_another_environment(family):
    folders = {
        Environment.of(family({"requires": ["numpy==0.1"]})).folder,
        Environment.of(family({"requires": ["numpy==0.2"]})).folder,
        Environment.of(family({"requires": ["numpy==0.1"], "constraints": ["scipy==1"]})).folder,
        Environment.of(family({"requires": ["numpy==0.1"], "size_gb": 9})).folder,
    }
    assert len(folders) == 3, "its size is not what it is made of"


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        pytest.param(
            {"requires": ["no-such-package-at-all==1"]},
            "created .*no-such-package-at-all",
            marks=pytest.mark.models,
        ),
        ({"requires": ["numpy==0.1"], "size_gb": 1e9}, "GB left"),
        ({"requires": ["numpy==0.1"], "python": ">=2.6,<3"}, "needs Python >=2.6,<3"),
    ],
)
def test_what_cannot_be_made_is_one_line(family, environment, reason):
    card = family(environment)
    with pytest.raises(errors.EnvironmentNotReady, match=reason) as failure:
        interpreter(card)
    assert "\n" not in str(failure.value)
    assert failure.value.hint
    assert environments.state(card).endswith("made on first use")


@pytest.mark.models
def test_a_registry_out_of_reach(family, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.setenv(name, "")
    with pytest.raises(errors.EnvironmentNotReady, match=r"cannot be reached; see .*log"):
        interpreter(family(TINY))


@pytest.mark.models
def test_an_environment_without_what_its_adapter_imports_is_not_ready(family, wheelhouse):
    card = family(TINY)
    adapter = Environment.of(card).family_folder / "adapter.py"
    adapter.write_text("import no_such_module\n" + adapter.read_text())
    with pytest.raises(errors.EnvironmentNotReady, match="No module named 'no_such_module'"):
        interpreter(card)
    assert not Environment.of(card).is_installed()


def test_a_cache_that_cannot_be_written(family, home):
    card = family({"requires": ["numpy==0.1"]})
    home.cache.write_text("a file")
    with pytest.raises(errors.EnvironmentNotReady, match="cannot be created in") as failure:
        interpreter(card)
    assert failure.value.hint[0] == "set PLATONIC_STORE_CACHE to another folder"


@pytest.mark.models
def test_two_ingests_at_once_make_one_environment(family, wheelhouse, tmp_path):
    card = family(TINY)
    stores = [tmp_path / "one.store", tmp_path / "two.store"]
    both = [
        subprocess.Popen(ingest(store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for store in stores
    ]
    said = [process.communicate(timeout=600)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("creating the environment of tiny, some 0.3 GB in" in text for text in said) == 1
    assert sum("waiting for another process that creates tiny" in text for text in said) == 1
    assert [embedded(store) for store in stores] == [287, 287]
    made = json.loads(Environment.of(card).marker.read_text())
    assert "tiny-potential==1.0" in made["packages"]
    assert environments.state(card) == "ready"
    ((name, size),) = installation.remove(["tiny"])
    assert name == Environment.of(card).folder.name
    assert size > 0.05
    assert environments.state(card) == "0.3 GB, made on first use"
    with pytest.raises(errors.EnvironmentNotReady, match="no environment of tiny"):
        installation.remove(["tiny"])


def stopped_installer(parent: subprocess.Popen) -> psutil.Process | None:
    """What installs for a process, once it does, stopped: uv would be done in no time."""
    for child in psutil.Process(parent.pid).children():
        with suppress(psutil.Error):
            if "install" in child.cmdline():
                child.suspend()
                return child
    return None


@pytest.mark.models
@pytest.mark.parametrize("orphan", [False, True], ids=["all killed", "installer left running"])
def test_an_interrupted_installation_is_begun_again(family, wheelhouse, tmp_path, orphan):
    card = family(TINY)
    environment = Environment.of(card)
    first = subprocess.Popen(ingest(tmp_path / "one.store"), stderr=subprocess.DEVNULL)
    while (installing := stopped_installer(first)) is None:
        assert first.poll() is None
        time.sleep(0.01)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not environment.is_installed()
    assert environment.folder.exists()
    if orphan:
        installing.resume()
    else:
        installing.kill()
    done = subprocess.run(ingest(tmp_path / "one.store"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert embedded(tmp_path / "one.store") == 287
    assert not installing.is_running()


@pytest.mark.models
@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_from_a_wheelhouse_without_a_network(family, wheelhouse, tmp_path, monkeypatch, tool):
    if tool == "pip":
        monkeypatch.setattr(installers, "find_uv", lambda: None)
    family(TINY)
    house = tmp_path / "house"
    ((name, files),) = models.bundle(["tiny"], house)
    assert (name, files) == ("tiny", len(list(house.glob("*.whl"))))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for setting in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.setenv(setting, "")
    wheel = house / "tiny_potential-1.0-py3-none-any.whl"
    good = wheel.read_bytes()
    wheel.write_bytes(good + b" ")
    with pytest.raises(errors.EnvironmentNotReady, match="could not be created"):
        models.install(["tiny-1"], wheelhouse=house)
    wheel.write_bytes(good)
    ((_, python),) = models.install(["tiny-1"], wheelhouse=house)
    assert subprocess.check_output([python, "-c", "import tiny_potential as t; print(t.ANSWER)"])


def test_a_wheelhouse_of_something_else(family, tmp_path):
    family(TINY)
    with pytest.raises(errors.EnvironmentNotReady, match=r"does not hold tiny-.* for Python"):
        models.install(["tiny"], wheelhouse=tmp_path)


def test_uv_is_told_what_pip_is_configured_with(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    lines = ["[global]", "index-url = https://one/simple", "extra-index-url = https://a https://b"]
    lines += ["constraint = pins.txt", "cert = /cert.pem", "[install]", "index-url = https://two"]
    (tmp_path / "pip.conf").write_text("\n".join(lines))
    for name in [name for name in os.environ if name.startswith("PIP_") and "CONFIG" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    tool = installers.Installer("uv", installers.pip_settings())
    told = " ".join(tool.install(Path("/env/bin/python"), "numpy"))
    for option in ("--default-index https://two", "--extra-index-url https://a",
                   "--extra-index-url https://b", f"--find-links {tmp_path}",
                   "--constraints pins.txt", "unsafe-best-match"):  # fmt: skip
        assert option in told
    assert "https://one" not in told
    assert tool.variables["SSL_CERT_FILE"] == "/cert.pem"
    assert tool.names_places
    locked = tool.install(Path("/env/bin/python"), "--require-hashes", "-r", "lock.txt")
    assert "--constraints" not in locked
    assert "--find-links" not in tool.install(Path("/env/bin/python"), offline=True)


def test_the_cpu_build_of_torch_where_there_is_no_gpu(family, monkeypatch):
    environment = Environment.of(family({"requires": ["torch", "numpy==0.1"]}))
    monkeypatch.setattr(torch_builds, "_is_reachable", lambda url: True)
    monkeypatch.setattr(torch_builds, "has_nvidia", lambda: False)
    for name in ("UV_TORCH_BACKEND", "UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    plain = installers.Installer(None, {})
    asked = torch_builds.places(environment, plain)
    assert asked == (["--extra-index-url", torch_builds.CPU_BUILDS] * (sys.platform == "linux"))
    assert torch_builds.places(environment, plain._replace(settings={"find-links": ["/x"]})) == []
    monkeypatch.setattr(torch_builds, "has_nvidia", lambda: True)
    assert torch_builds.places(environment, plain) == []
    cuda = {"torch": "2.13.0", "nvidia-cublas": "13"}
    assert torch_builds.described(environment, cuda, []) == "some 4.8 GB with torch 2.13.0 (CUDA)"
    cpu = {"torch": "2.13.0+cpu"}
    assert torch_builds.described(environment, cpu, []).endswith("2.13.0+cpu (for the CPU)")


LOCKED = sorted((resources.folder("ingest") / "families").glob("*/lock.txt"))


@pytest.mark.parametrize("lock", LOCKED, ids=lambda path: path.parent.name)
def test_a_lock_is_of_its_specification(lock):
    """Every line has a hash, and no build of torch is among them."""
    card = next(card for card in cards.load_cards().values() if card.family == lock.parent.name)
    requirements = locks.read(Environment.of(card))
    assert all("--hash=sha256:" in line for line in requirements)
    assert not [line for line in requirements if line.startswith(("torch==", "nvidia-", "triton"))]


def test_a_lock_of_another_specification_is_refused(family):
    environment = Environment.of(family(TINY))
    assert locks.pins(environment) == []
    before = environment.folder
    text = f"# tiny\n{locks._of(environment)}\n\nnumpy==2.0 ; python_version >= '3' \\\n"
    environment.lock_file.write_text(f"{text}    --hash=sha256:{'0' * 64}\n")
    assert locks.pins(environment) == ["numpy==2.0 ; python_version >= '3'"]
    assert environment.folder != before, "another lock is another environment"
    other = replace(environment, requires=("numpy==2.1",))
    with pytest.raises(errors.EnvironmentNotReady, match=r"is not of its environment\.yaml"):
        locks.read(other)


def test_cleaning_leaves_what_is_being_made(family, home):
    folder = Environment.of(family(TINY)).folder
    folder.mkdir(parents=True)
    with installation.install_lock(folder):
        assert installation.remove([]) == []
    assert [name for name, _ in installation.remove([])] == [folder.name]
