"""What mypy knows of a store's questions: an ignore that is not needed fails `make lint`."""

from platonic_store import Store


def ask(store: Store) -> None:
    store.similar("mp-1", model="sevennet-0@1", k=3)
    store.similar("mp-1", k="three")  # type: ignore[arg-type]
    store.similar("mp-1", layer=1)  # type: ignore[call-arg]
    store.stitch("sevennet-0", "chgnet-0.3.0")  # type: ignore[call-arg]
    store.no_such_question()  # type: ignore[attr-defined]
