"""What a long job leaves in the log."""

import logging

from store_fakes import crystals


def test_commits_snapshots_and_interruptions_are_logged(store, caplog):
    caplog.set_level(logging.INFO, logger="platonic_store")
    _, (run,) = store.ingest(crystals(4), ["fake-a"])
    store.delete(["c3"])
    with store._writing("as if killed") as writer, writer.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'running'")
    store.doctor()
    for what in (
        "published snapshot 1 ",
        f"run {run.run}: fake-a on cpu: layer 1",
        f"4 structures of run {run.run}",
        f"run {run.run} finished",
        "published",
        "deleted 1 structures",
        "1 runs had been interrupted",
    ):
        assert what in caplog.text, what
    assert all("\n" not in record.getMessage() for record in caplog.records)
