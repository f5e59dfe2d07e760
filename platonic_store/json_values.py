"""Values of tables as JSON has them, the same in a terminal and over HTTP."""

import math
from decimal import Decimal
from typing import Any


def plain(value: Any) -> Any:
    """A value as JSON has it: no number is infinite or not a number, bytes are hexadecimal."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
