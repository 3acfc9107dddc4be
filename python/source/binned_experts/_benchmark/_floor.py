"""The least time that a call can take on a device: what must be computed and read, at the rates of its data sheet."""

# GB/s of the memory, and 10^12 operations a second of the tensor cores in 16 bits, dense: data sheets of NVIDIA.
CARDS = {
    "NVIDIA H100 80GB HBM3": (3350, 989.4),
    "NVIDIA H100 PCIe": (2000, 756),
    "NVIDIA H100 NVL": (3938, 835.5),
    "NVIDIA H200": (4800, 989.4),
    "NVIDIA A100-SXM4-80GB": (2039, 312),
    "NVIDIA A100-SXM4-40GB": (1555, 312),
    "NVIDIA A100 80GB PCIe": (1935, 312),
    "NVIDIA A100-PCIE-40GB": (1555, 312),
}
# How many products of 16 bits the fastest way to a product of a precision needs.
PRODUCTS = {"fp32": 3, "tf32": 1, "bf16": 1, "f16": 1}
# Below this share of the floor a time is not believed: schemes such as Strassen's need fewer operations.
LEAST = 0.8


def floor_ms(gpu, precision, workload, necessary, width):
    """Milliseconds that no call takes less of, or ``None`` where the device has no row in the table.

    ``necessary`` are the numbers of different pairs of a token and an expert with a weight other than 0, of their tokens
    and of their experts; ``width`` is the number of bytes of an element. The output counts for nothing: it may lie in the
    L2 cache when the clock stops.
    """
    products = PRODUCTS.get(precision.split("+")[0])
    if gpu not in CARDS or products is None:
        return None
    gigabytes, tera = CARDS[gpu]
    pairs, tokens, experts = necessary
    hidden, intermediate = workload.hidden_dim, workload.intermediate
    operations = 2 * pairs * 3 * hidden * intermediate
    read = width * (experts * 3 * hidden * intermediate + tokens * hidden)
    return 1e3 * max(products * operations / (1e12 * tera), read / (1e9 * gigabytes))


def why_none(gpu):
    """Why there is no floor."""
    return f"no data sheet of {gpu}" if gpu else "none for a CPU"
