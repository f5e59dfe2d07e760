"""Arrays in, arrays out: what is computed, without the store. Each function names its source."""
