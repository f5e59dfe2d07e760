"""What a service is told when it starts, and its limits."""

from dataclasses import dataclass

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Settings:
    """Where a service listens, who may ask, and how much of this machine an answer may take.

    models: those that embed uploads; None for the store's that can run here without a download.
    cors: origins whose pages may read answers. hosts: further names by which it is called.
    """

    host: str = "127.0.0.1"
    port: int = 8480
    token: str | None = None
    public: bool = False
    sql: bool = False
    models: tuple[str, ...] | None = None
    cors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    seconds: float = 30.0  # for an answer, waiting included
    threads: int = 4  # answers at work at the same time
    queue: int = 256  # answers that wait for a thread
    per_client: int = 128  # answers of one client, at work or waiting
    memory: str = "2GB"  # of DuckDB
    page_rows: int = 1_000  # on a page if the request does not say
    most_rows: int = 10_000  # on a page
    page_bytes: int = 16 << 20  # as Arrow
    answer_rows: int = 1_000_000  # on all pages together
    answer_bytes: int = 128 << 20  # as Arrow
    cache_bytes: int = 128 << 20  # answers that are kept
    body_bytes: int = 2 << 20  # of a request
    connections: int = 512
    upload_atoms: int = 400
    uploads: int = 256  # that are kept
    batch_structures: int = 100  # that are sent together
    kept_atoms: int = 20_000  # of all of them
    upload_seconds: float = 10.0  # to read one
    upload_memory: int = 2 << 30  # to read one

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        """Where it is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"
