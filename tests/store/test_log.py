"""What a long job leaves in the log."""

import logging

from store_fakes import crystals


def test_commits_publications_and_recoveries_are_logged(store, caplog):
    caplog.set_level(logging.INFO, logger="platonic_store")
    store.ingest(crystals(4), ["fake-a"])
    store.delete(["c3"])
    with store.catalog.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'running'")
    store.doctor()
    for what in (
        "migrated",
        "fake-a embeds layers [1]",
        "committed chunk 1: 4 structures of run 1",
        "run 1 finished",
        "published",
        "deleted 1 structures",
        "recovered",
    ):
        assert what in caplog.text, what
    assert all("\n" not in record.getMessage() for record in caplog.records)
