"""Where a store lives: a disk, an object store and a web server keep the same promises."""

import errno
import os
import subprocess
import sys
import threading
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lance
import pyarrow as pa
import pytest
from s3 import KEY, SECRET

from platonic_store.errors import (
    InvalidQuery,
    PlatonicError,
    StoreNotFound,
    StoreNotWritable,
    StoreUnreachable,
    worded,
)
from platonic_store.storage import remote
from platonic_store.storage.locate import locate
from platonic_store.storage.location import Disk

BIG = 20 << 20  # sent in parts


@pytest.fixture
def s3(bucket):
    return locate(bucket.uri, bucket.options)


@pytest.fixture(params=["disk", "s3"])
def location(request, tmp_path):
    if request.param == "disk":
        return locate(tmp_path / "a.store")
    return request.getfixturevalue("s3")


@pytest.fixture
def big(tmp_path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(BIG))
    return path


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def assert_one_line(caught) -> None:
    assert isinstance(caught.value, PlatonicError)
    assert "\n" not in str(caught.value)


# What every place does


def test_a_file_is_created_once(location):
    assert location.create("manifests/1.json", b"mine")
    assert not location.create("manifests/1.json", b"another's")
    assert location.create("manifests/1.json", b"mine")  # asked for again
    assert location.read("manifests/1.json") == b"mine"


def test_of_eight_threads_that_create_one_wins(location):
    start, made = threading.Barrier(8), {}

    def run(number: int) -> None:
        start.wait()
        made[number] = location.create("manifests/1.json", b"%d" % number)

    threads = [threading.Thread(target=run, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for number, won in made.items() if won]
    assert len(made) == 8
    assert location.read("manifests/1.json") == b"%d" % winner


def test_write_replaces(location):
    for data in (b"first", b"", b"last"):
        location.write("manifests/latest.json", data)
        assert location.read("manifests/latest.json") == data


@pytest.mark.parametrize("size", [0, 5, BIG])
def test_a_file_goes_up_and_comes_back(location, tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "there").write_bytes(data)
    location.upload("catalog/x.duckdb", tmp_path / "there")
    location.download("catalog/x.duckdb", tmp_path / "new folder" / "back")
    assert (tmp_path / "new folder" / "back").read_bytes() == data
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["back"]


def test_what_is_not_there(location, tmp_path):
    with pytest.raises(FileNotFoundError):
        location.read("manifests/9.json")
    with pytest.raises(FileNotFoundError):
        location.download("manifests/9.json", tmp_path / "back")
    with pytest.raises(FileNotFoundError):
        location.upload("manifests/9.json", tmp_path / "nothing")
    assert not (tmp_path / "back").exists()
    assert not location.exists("manifests/9.json")
    assert location.names("manifests") == []
    location.delete(["manifests/9.json"])


def test_names_are_those_of_a_folder_and_below(location):
    for key in ("rows/b/2", "rows/a/1", "rows_of_another/3", "top"):
        location.write(key, key.encode())
    assert [(entry.key, entry.size) for entry in location.names("rows")] == [
        ("rows/a/1", 8),
        ("rows/b/2", 8),
    ]
    assert [entry.key for entry in location.names("")] == [
        "rows/a/1",
        "rows/b/2",
        "rows_of_another/3",
        "top",
    ]
    age = datetime.now(UTC) - location.names("rows")[0].modified
    assert abs(age) < timedelta(hours=1)


def test_delete_and_exists(location):
    for key in ("a/1", "a/2", "a/3"):
        location.write(key, b"x")
    location.delete(key for key in ["a/1", "a/none", "a/3"])
    assert [location.exists(key) for key in ("a/1", "a/2", "a/3")] == [False, True, False]
    location.delete([])


def test_a_place_that_creates_once_passes_the_try_of_it(location):
    location.require_conditional_create()
    assert location.names("") == []


def test_lance_opens_what_it_is_given(location):
    assert location.writable
    uri, options = location.lance_uri("m__atom"), location.lance_options
    lance.write_dataset(pa.table({"id": [1, 2]}), uri, storage_options=options)
    assert lance.dataset(uri, storage_options=options).count_rows() == 2
    assert location.names("vectors/m__atom.lance/_versions")


# A disk


def test_without_hard_links_a_file_is_created_once(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    test_of_eight_threads_that_create_one_wins(Disk(tmp_path))
    test_a_file_is_created_once(Disk(tmp_path / "again"))


def test_without_copy_file_range_files_are_copied(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    test_a_file_goes_up_and_comes_back(Disk(tmp_path / "a.store"), tmp_path, 5)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    disk = Disk(tmp_path)
    disk.write("a/1", b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for call in (disk.write, disk.create):
        with pytest.raises(StoreNotWritable, match="no space left") as caught:
            call("a/1", b"new")
        assert_one_line(caught)
    assert [(entry.key, disk.read(entry.key)) for entry in disk.names("")] == [("a/1", b"old")]


@pytest.mark.parametrize("key", ["../outside", "/etc/hostname", "a/../../outside"])
def test_no_key_leads_out_of_the_store(tmp_path, key):
    disk = Disk(tmp_path / "a.store")
    for call in (disk.read, disk.exists, lambda key: disk.write(key, b"")):
        with pytest.raises(ValueError, match="is not a key"):
            call(key)


def test_a_disk_does_not_wait_for_obstore():
    program = (
        "import sys; from platonic_store.storage.locate import locate; locate('a.store')\n"
        "assert 'obstore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# What a place is called


@pytest.mark.parametrize(
    "uri",
    [
        "s3://user:hunter2@bucket/a.store",
        "https://hunter2@example.org/a.store",
        "https://example.org/a.store?token=hunter2",
        "nonsense://user:hunter2@bucket",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(uri):
    with pytest.raises(InvalidQuery) as caught:
        locate(uri)
    assert_one_line(caught)
    assert "hunter2" not in text_of(caught.value)
    assert "storage_options" not in worded(caught.value.hint), "a command has no such option"


@pytest.mark.parametrize("uri", ["ftp://example.org/x", "memory:///x", "s3:///x"])
def test_a_url_of_nothing_known_is_refused(uri):
    with pytest.raises(InvalidQuery, match="is no URL of a store"):
        locate(uri)


def test_a_path_and_a_file_url_are_a_disk(tmp_path):
    (tmp_path / "a b").mkdir()
    for uri in (tmp_path / "a b", str(tmp_path / "a b"), (tmp_path / "a b").as_uri()):
        place = locate(uri)
        assert place.folder == tmp_path / "a b"
        assert place.lance_options is None


@pytest.mark.parametrize(
    "options", [{"aws_nonsense": SECRET}, {"aws_skip_signature": SECRET}, {"timeout": SECRET}]
)
def test_an_option_that_is_wrong_is_refused_without_its_value(bucket, options):
    with pytest.raises(InvalidQuery) as caught:
        locate(bucket.uri, options)
    assert_one_line(caught)
    assert SECRET not in text_of(caught.value)


# An object store


@pytest.mark.parametrize("endpoint", ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_environment_alone_will_do(bucket, monkeypatch, endpoint):
    environment = {**bucket.environment, endpoint: bucket.environment["AWS_ENDPOINT_URL"]}
    for name in environment.keys() - ({"AWS_ENDPOINT_URL"} - {endpoint}):
        monkeypatch.setenv(name, environment[name])
    place = locate(bucket.uri + "/")
    assert place.uri == bucket.uri
    test_lance_opens_what_it_is_given(place)


def test_options_may_be_called_as_the_variables_are(bucket):
    test_lance_opens_what_it_is_given(locate(bucket.uri, bucket.environment))


def test_an_answer_that_was_lost_does_not_make_a_file_anothers(bucket, s3):
    bucket.proxy.lose("PUT", "manifests/", times=2)
    assert s3.create("manifests/1.json", b"mine")
    assert not s3.create("manifests/1.json", b"another's")
    assert bucket.proxy.pending() == 0


def test_an_answer_that_comes_too_late_does_not_either(bucket):
    s3 = locate(bucket.uri, {**bucket.options, "read_timeout": "1s"})
    bucket.proxy.delay(2, "PUT", "manifests/")
    assert s3.create("manifests/1.json", b"mine")
    assert not s3.create("manifests/1.json", b"another's")


def test_a_conflict_with_one_who_gave_up_is_not_the_end(bucket, s3):
    """S3 answers 409 while another PUT of the key is under way, of which nothing may come."""
    bucket.proxy.answer(409, "PUT", "manifests/")
    assert s3.create("manifests/1.json", b"mine")
    assert s3.read("manifests/1.json") == b"mine"


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_stumbles_is_asked_again(bucket, s3, big, tmp_path, status):
    for method, key in [("PUT", "a/1"), ("PUT", "a/2"), ("PUT", "partNumber=2"), ("GET", "a/1")]:
        bucket.proxy.answer(status, method, key, times=2)
    for method, key in [("GET", "prefix="), ("POST", "delete"), ("HEAD", "a/1"), ("POST", "uploa")]:
        bucket.proxy.answer(status, method, key)
    assert s3.create("a/1", b"1")
    s3.write("a/2", b"2")
    s3.upload("a/3", big)
    assert s3.read("a/1") == b"1"
    assert s3.exists("a/1")
    s3.delete(["a/2"])
    assert [entry.key for entry in s3.names("a")] == ["a/1", "a/3"]
    s3.download("a/3", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    assert bucket.proxy.pending() == 0


def test_lost_answers_to_an_upload_and_a_deletion(bucket, s3, big, tmp_path):
    for method, key in [("POST", "?uploads"), ("PUT", "partNumber=1"), ("POST", "uploadId=")]:
        bucket.proxy.lose(method, key)
    s3.upload("a/1", big)
    s3.download("a/1", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    bucket.proxy.lose("POST", "?delete")
    s3.delete(["a/1"])
    assert s3.names("") == []
    assert bucket.proxy.pending() == 0


def test_a_connection_that_is_cut_in_a_file_is_taken_up_again(bucket, s3, big, tmp_path):
    s3.upload("a/1", big)
    bucket.proxy.cut("GET", "a/1", times=3)
    s3.download("a/1", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    bucket.proxy.cut("GET", "a/1")
    assert s3.read("a/1") == big.read_bytes()
    bucket.proxy.cut("GET", "prefix=")
    assert len(s3.names("a")) == 1
    assert bucket.proxy.pending() == 0


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 1)


def test_a_file_that_never_comes_whole_is_one_clear_line_and_no_file(
    bucket, impatient, big, tmp_path
):
    s3 = locate(bucket.uri, bucket.options)
    s3.upload("a/1", big)
    bucket.proxy.cut("GET", "a/1", times=10_000)
    with pytest.raises(StoreUnreachable, match="does not answer") as caught:
        s3.download("a/1", tmp_path / "folder" / "back")
    assert_one_line(caught)
    assert list((tmp_path / "folder").iterdir()) == []


def test_no_error_tells_a_credential(bucket, impatient, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    s3 = locate(bucket.uri, bucket.options)
    denied = f"<Error><Code>InvalidAccessKeyId</Code><Id>{KEY}</Id><S>{SECRET}</S></Error>"
    calls = {
        "GET": [lambda: s3.read("a"), lambda: s3.names("a"), lambda: s3.download("a", tmp_path)],
        "PUT": [
            lambda: s3.create("a", b""),
            lambda: s3.write("a", b""),
            lambda: s3.upload("a", tmp_path / "file"),
            s3.require_conditional_create,
        ],
        "HEAD": [lambda: s3.exists("a")],
        "POST": [lambda: s3.delete(["a"])],
    }
    for status in (400, 401, 403, 503):
        for method, those in calls.items():
            for call in those[:1] if status == 503 else those:  # which is asked again for long
                bucket.proxy.forget()
                bucket.proxy.answer(status, method, "", 10_000, denied.encode())
                with pytest.raises(StoreUnreachable, match=f"{bucket.uri} .*{status}") as caught:
                    call()
                assert_one_line(caught)
                text = text_of(caught.value)
                assert KEY not in text
                assert SECRET not in text


def test_a_server_that_is_not_there_and_credentials_that_are_not(bucket, impatient, monkeypatch):
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    dead = {**bucket.options, "aws_endpoint_url": "http://127.0.0.1:1"}
    nobody = {"aws_endpoint_url": bucket.proxy.url, "allow_http": "true"}
    for options, said in [(dead, "does not answer"), (nobody, "there are no credentials")]:
        with pytest.raises(StoreUnreachable, match=said) as caught:
            locate(bucket.uri, options).create("a", b"x")
        assert_one_line(caught)
        assert "storage_options" not in worded(caught.value.hint), "a command has no such option"


def test_a_bucket_that_is_not_there(bucket, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    s3 = locate("s3://no-such-bucket/a.store", bucket.options)
    for call in (
        lambda: s3.read("a"),
        lambda: s3.names(""),
        lambda: s3.create("a", b"x"),
        lambda: s3.write("a", b"x"),
        lambda: s3.upload("a", tmp_path / "file"),
    ):
        with pytest.raises(StoreNotFound, match="there is no bucket"):
            call()


def test_a_store_that_ignores_the_condition_is_refused(bucket, s3):
    bucket.proxy.ignored.add("if-none-match")
    with pytest.raises(StoreNotWritable, match="ignores If-None-Match") as caught:
        s3.require_conditional_create()
    assert_one_line(caught)
    assert s3.names("") == []


def test_a_store_that_does_not_know_the_condition_is_refused(bucket, impatient):
    s3 = locate(bucket.uri, bucket.options)
    bucket.proxy.answer(501, "PUT", "", times=10_000)
    with pytest.raises(StoreNotWritable, match="501 Not Implemented") as caught:
        s3.require_conditional_create()
    assert_one_line(caught)


# A web server


def test_a_web_server_is_read(web, tmp_path):
    folder, proxy = web
    data = os.urandom(BIG)
    (folder / "catalog").mkdir()
    (folder / "catalog" / "x").write_bytes(data)
    place = locate(proxy.url + "/")
    proxy.answer(503, "GET", "catalog/x")
    assert place.read("catalog/x") == data
    place.download("catalog/x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert place.exists("catalog/x")
    assert not place.exists("catalog/y")
    with pytest.raises(FileNotFoundError, match="no catalog/y in http://"):
        place.read("catalog/y")


def test_a_cut_connection_of_a_web_server(web, tmp_path):
    folder, proxy = web
    data = os.urandom(BIG)
    (folder / "x").write_bytes(data)
    proxy.cut("GET", "x", times=2)
    locate(proxy.url).download("x", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert proxy.pending() == 0


def test_a_web_server_is_not_written_or_listed(web, tmp_path):
    place = locate(web[1].url)
    assert not place.writable
    (tmp_path / "file").write_bytes(b"x")
    for call in (
        lambda: place.create("a", b""),
        lambda: place.write("a", b""),
        lambda: place.upload("a", tmp_path / "file"),
        lambda: place.names(""),
        lambda: place.delete(["a"]),
        lambda: place.lance_uri("m"),
        place.require_conditional_create,
    ):
        with pytest.raises(StoreNotWritable, match="is a web server: it cannot be") as caught:
            call()
        assert_one_line(caught)
    assert web[1].seen == []
