"""An S3 server of this machine, moto's, with a bucket named `bucket`."""

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def bucket() -> Iterator[dict[str, str]]:
    """The storage options by which it is reached."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made = urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")
    urllib.request.urlopen(made).close()
    try:
        yield {
            "aws_access_key_id": "key",
            "aws_secret_access_key": "secret",
            "aws_region": "us-east-1",
            "aws_endpoint_url": f"http://{host}:{port}",
            "aws_allow_http": "true",
        }
    finally:
        server.stop()
