"""The revision of the catalogue's tables that this program reads and writes."""

REVISION = "0015"
