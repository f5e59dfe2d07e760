"""A cluster of several nodes on this machine: what is done there is what one machine does.

Rows, ids and numbers are the same, none is there twice, and what dies is replaced.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import ase.io
import psutil
import pytest
from s3 import KEY, SECRET
from store_fakes import PoolOfNone, content, crystals, know_fakes

from platonic_store.engines import local, on_cluster, parts, reading, supervision
from platonic_store.errors import ClusterNotReady, InvalidQuery, StoreNotWritable, StoreUnreachable
from platonic_store.jobs import map as mapping
from platonic_store.jobs import reading as jobs_reading
from platonic_store.jobs import score
from platonic_store.jobs.runs import RunReport
from platonic_store.storage import commits, records, writer
from platonic_store.store import Store

pytest.importorskip("ray")
POOL = crystals(40)
STRUCTURES = "SELECT * EXCLUDE (added_at) FROM structure ORDER BY structure_id"
QUARANTINE = "SELECT structure_id, reason FROM quarantine ORDER BY ALL"
TABLES = {
    "structure_scores": "reference",
    "atom_scores": "reference, site_index",
    "structure_map": "model, layer",
    "atom_map": "model, layer, site_index",
}
PREDICTIONS = "SELECT * EXCLUDE (run) FROM atom_prediction ORDER BY ALL"


@pytest.fixture(scope="module")
def cluster():
    """A head that does no work, and two nodes of one core."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray would kill where others take memory.
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112 (its spelling)
    with forking():
        made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        add_node(made)
    yield made
    made.shutdown()


@contextmanager
def forking():
    """Lance warns of every fork, and Ray's processes become other programs at once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "lance is not fork-safe")
        yield


def add_node(cluster, **options):
    with forking():
        return cluster.add_node(num_cpus=1, **options)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch, tmp_path):
    """Pieces of a few structures, each published at once."""
    know_fakes(patch=monkeypatch.setattr)
    monkeypatch.setattr(on_cluster, "REQUEST_ATOMS", 16)
    monkeypatch.setattr(on_cluster, "FIRST_EDGES", 1.0)
    monkeypatch.setattr(on_cluster, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(writer, "PUBLISH_SHARE", 1e9)
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def expected(monkeypatch, tmp_path) -> Store:
    """What one machine makes."""
    with monkeypatch.context() as patch:
        patch.setattr(local, "WorkerPool", PoolOfNone)
        store = Store.open(tmp_path / "one.store")
        store.ingest(POOL, ["fake-a"], outputs="energy,forces")
    return store


def check(store: Store, expected: Store) -> None:
    assert content(store) == content(expected)
    assert store.sql(PREDICTIONS).equals(expected.sql(PREDICTIONS))
    assert len(store.sql(QUARANTINE)) == 0
    assert store.doctor(deep=True)["problems"] == []


def ingest(store: Store, cluster, pool=POOL, **options) -> RunReport:
    options = {"outputs": "energy,forces", "batch_atoms": 16} | options
    _, (run,) = store.ingest(pool, ["fake-a"], ray=cluster.address, **options)
    return run


@contextmanager
def after_commits(count: int, act: Callable[[], object]):
    """Do something once, when so many chunks have been committed."""
    done = 0

    def commit(*given):
        nonlocal done
        commit_written(*given)
        done += 1
        if done == count:
            act()

    commit_written, commits.commit_written = commits.commit_written, commit
    try:
        yield
    finally:
        commits.commit_written = commit_written
    assert done >= count, "it came to that"


def actors(cluster) -> list[psutil.Process]:
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    found = []
    for child in (child for pid in raylets for child in psutil.Process(pid).children()):
        with suppress(psutil.Error):
            found += [child] if child.cmdline()[0].startswith("ray::Embedder") else []
    return found


def an_actor(cluster) -> psutil.Process:
    return actors(cluster)[0]


def a_worker(cluster) -> psutil.Process:
    return next(child for actor in actors(cluster) for child in actor.children())


@pytest.mark.faults
def test_it_is_what_one_machine_makes_and_the_same_again_is_a_no_op(cluster, expected, tmp_path):
    store = Store.open(tmp_path / "many.store")
    run = ingest(store, cluster)
    assert (run.structures, run.sites) == (len(POOL), sum(map(len, POOL.values())))
    check(store, expected)
    ((state, structures),) = store.sql("SELECT state, structures FROM run").itertuples(index=False)
    assert (state, structures) == ("finished", len(POOL))
    run = ingest(store, cluster)
    assert run.run == 0
    run = ingest(store, cluster, outputs="", layers="all")
    assert run.structures == len(POOL)
    assert store.doctor(deep=True)["problems"] == []
    assert not actors(cluster)


@pytest.mark.faults
def test_the_first_are_embedded_before_the_last_are_read(cluster, expected, tmp_path, monkeypatch):
    done = []

    def note(module, name):
        call = getattr(module, name)

        def noted(*given):
            done.append(name)
            return call(*given)

        monkeypatch.setattr(module, name, noted)

    note(records, "add_batch")
    note(commits, "commit_written")
    monkeypatch.setattr(jobs_reading, "BATCH", 4)
    store = Store.open(tmp_path / "many.store")
    ingest(store, cluster, dict(reversed(POOL.items())))
    assert done.count("add_batch") == len(POOL) / 4
    assert "add_batch" in done[done.index("commit_written") :]
    check(store, expected)


@pytest.mark.faults
def test_a_folder_is_read_by_tasks_as_by_one_machine(cluster, tmp_path, monkeypatch):
    folder = tmp_path / "crystals"
    folder.mkdir()
    for number in range(3):
        some = [atoms for id_, atoms in POOL.items() if int(id_[1:]) % 3 == number]
        ase.io.write(folder / f"{number}.extxyz", some)
    (folder / "broken.cif").write_text("data_\n_cell_length_a nonsense\n")
    monkeypatch.setattr(reading, "PART_BYTES", 1)
    one, many = Store.open(tmp_path / "one.store"), Store.open(tmp_path / "many.store")
    for source in (folder, folder / "0.extxyz", POOL):
        here, _ = one.ingest(source)
        there, _ = many.ingest(source, ray=cluster.address)
        assert here == there
    for query in (STRUCTURES, QUARANTINE):
        assert many.sql(query).equals(one.sql(query))
    assert len(many.sql(QUARANTINE)) == 1


@pytest.mark.faults
@pytest.mark.parametrize("found", [an_actor, a_worker])
def test_what_is_killed_is_replaced(cluster, expected, tmp_path, found):
    store = Store.open(tmp_path / "many.store")
    with after_commits(2, lambda: found(cluster).kill()):
        ingest(store, cluster)
    check(store, expected)


@pytest.mark.faults
def test_a_lost_node(cluster, expected, bucket):
    store = Store.open(bucket.uri, storage_options=bucket.options)
    node = add_node(cluster)
    with after_commits(2, lambda: cluster.remove_node(node, allow_graceful=False)):
        ingest(store, cluster)
    check(store, expected)


@pytest.mark.faults
def test_a_driver_that_is_killed_and_started_again(cluster, expected, bucket):
    process = multiprocessing.get_context("spawn").Process(
        target=ingest_and_die, args=(cluster.address, bucket.uri, bucket.options)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    store = Store.open(bucket.uri, storage_options=bucket.options)
    assert 0 < len(store.embeddings("fake-a", level="structure")) < len(POOL)
    ingest(store, cluster)
    check(store, expected)


def ingest_and_die(address: str, uri: str, options: dict[str, str]) -> None:
    know_fakes()
    on_cluster.REQUEST_ATOMS, on_cluster.FIRST_EDGES = 16, 1.0
    on_cluster.CHUNK_SECONDS, writer.PUBLISH_SHARE = 0.0, 1e9
    store = Store.open(uri, storage_options=options)
    with after_commits(3, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        store.ingest(POOL, ["fake-a"], outputs="energy,forces", batch_atoms=16, ray=address)


@pytest.mark.faults
@pytest.mark.parametrize("times", [2, 15])
def test_an_upload_that_fails_is_made_again(cluster, expected, bucket, times):
    """By Lance within its patience, and after that by another actor."""
    store = Store.open(bucket.uri, storage_options=bucket.options)
    bucket.proxy.answer(503, "PUT", "/data/", times=times)
    ingest(store, cluster)
    assert not bucket.proxy.pending()
    check(store, expected)


@pytest.mark.faults
def test_an_upload_that_fails_for_good_is_one_line_without_credentials(cluster, expected, bucket):
    store = Store.open(bucket.uri, storage_options=bucket.options)
    bucket.proxy.answer(403, "PUT", "/data/", times=1000)
    with pytest.raises(StoreUnreachable, match="403") as failed:
        ingest(store, cluster)
    said = str(failed.value)
    assert "\n" not in said
    assert not any(secret in said for secret in (KEY, SECRET, bucket.proxy.url))
    bucket.proxy.forget()
    ingest(store, cluster)
    check(store, expected)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("quirk", "reason"),
    [("deadly", "killed its worker twice"), ("deadlier", "killed its actor 2 times")],
)
def test_a_structure_that_kills_wherever_it_comes(
    cluster, expected, tmp_path, monkeypatch, quirk, reason
):
    know_fakes(quirk, patch=monkeypatch.setattr)
    store = Store.open(tmp_path / "many.store")
    ingest(store, cluster, {**POOL, "poison": POOL["c0"].copy()})
    (found,) = store.sql(QUARANTINE).itertuples(index=False)
    assert found.structure_id == "poison"
    assert found.reason.startswith(reason)
    assert content(store) == content(expected)


@pytest.mark.faults
def test_scores_coordinates_and_the_map_are_those_of_one_machine(
    cluster, prototypes_path, tmp_path, monkeypatch
):
    monkeypatch.setattr(score, "CHUNK", 60)
    monkeypatch.setattr(mapping, "CHUNK", 300)
    stores = []
    for name, ray in (("one", None), ("many", cluster.address)):
        store = Store.open(shutil.copytree(prototypes_path, tmp_path / name))
        store.select_anchors("random", 64, seed=7)
        stores.append(
            (store, store.project(ray=ray), store.score(seed=7, ray=ray), store.map(ray=ray))
        )
    (one, *here), (many, *there) = stores
    assert there == here
    assert content(many) == content(one)
    for name, key in TABLES.items():
        rows = f"SELECT * FROM {name} ORDER BY structure_id, {key}"
        assert many.snapshot().rows(rows) == one.snapshot().rows(rows)


@pytest.fixture
def other_version(cluster, tmp_path):
    """A node that says that it has another version of platonic-store."""
    folder = tmp_path / "site"
    about = folder / "platonic_store-0.0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: platonic-store\nVersion: 0.0.1\n")
    node = add_node(cluster, env_vars={"PYTHONPATH": str(folder)})
    yield node
    cluster.remove_node(node)


@pytest.mark.faults
def test_a_node_with_another_version_is_left_out(cluster, other_version, expected, tmp_path, capfd):
    store = Store.open(tmp_path / "many.store")
    ingest(store, cluster)
    check(store, expected)
    said = capfd.readouterr().err
    assert "is left out: it has platonic-store 0.0.1" in said
    assert f"(here {version('platonic-store')})" in said


def test_a_task_on_a_node_with_another_version_is_one_line():
    with pytest.raises(ClusterNotReady, match="a node of the cluster has") as raised:
        parts._require((("platonic-store", "0.0.1"),))
    assert f"platonic-store {version('platonic-store')} (here 0.0.1)" in str(raised.value)


@pytest.mark.faults
def test_a_cluster_without_room_or_without_the_store_says_so(
    cluster, tmp_path, monkeypatch, bucket
):
    monkeypatch.setattr(supervision, "PATIENCE", 1.0)
    store = Store.open(tmp_path / "many.store")
    with pytest.raises(ClusterNotReady, match="64 CPUs"):
        ingest(store, cluster, num_cpus=64)
    monkeypatch.setattr(writer.Writer, "witness", "lease/of another store.json")
    with pytest.raises(StoreNotWritable, match="does not see the store"):
        ingest(store, cluster)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:port", "127.0.0.1", "ray://x:99999"])
def test_an_address_at_which_nothing_answers_is_one_line(tmp_path, address):
    store = Store.open(tmp_path / "none.store")
    with pytest.raises(ClusterNotReady, match=f"no Ray cluster answers at {address}") as raised:
        store.ingest(POOL, ["fake-a"], ray=address)
    assert "\n" not in str(raised.value)
    assert not Path(tmp_path / "none.store").exists()


def test_another_server_at_the_address_is_one_line(tmp_path, bucket):
    store = Store.open(tmp_path / "none.store")
    address = bucket.proxy.url.removeprefix("http://")
    with pytest.raises(ClusterNotReady, match=f"answers at {address} .another server does"):
        store.ingest(POOL, ["fake-a"], ray=address)


@pytest.mark.faults
def test_a_cluster_of_this_machine_alone(expected, tmp_path):
    store = Store.open(tmp_path / "many.store")
    with forking():
        store.ingest(POOL, ["fake-a"], outputs="energy,forces", batch_atoms=16, ray="local")
    check(store, expected)


def test_a_cluster_that_does_not_start_is_one_line(tmp_path, monkeypatch):
    def fail(**_):
        raise Exception("The current node timed\nout.")

    monkeypatch.setattr("ray.init", fail)
    store = Store.open(tmp_path / "none.store")
    with pytest.raises(ClusterNotReady, match="Ray does not start here") as raised:
        store.ingest(POOL, ["fake-a"], ray="local")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("unit", ["GPUs", "CPUs"])
def test_actors_without_a_cluster_are_refused(tmp_path, unit):
    store = Store.open(tmp_path / "none.store")
    with pytest.raises(InvalidQuery, match=f"^{unit} of an actor are a cluster's"):
        store.ingest(POOL, ["fake-a"], **{f"num_{unit.lower()}": 1})
    with pytest.raises(InvalidQuery, match="cannot take 0 CPUs"):
        store.ingest(POOL, ["fake-a"], ray="local", num_cpus=0)
    assert not Path(tmp_path / "none.store").exists()


def test_without_a_cluster_it_says_how_to_get_one(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "none.store")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(ClusterNotReady, match="not installed") as raised:
            store.ingest(POOL, ["fake-a"], ray="auto")
    assert "platonic-store[ray]" in str(raised.value.__notes__)
    assert not Path(tmp_path / "none.store").exists()
