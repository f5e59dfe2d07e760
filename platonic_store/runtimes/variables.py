"""The environment variables of a process that runs a model."""

VARIABLES = {
    # One thread a worker: two threads of torch give 1.6 times one, two workers 2 times.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc would return freed memory and fault it in again for every tensor, a third of the time
    # of a forward pass.
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}
