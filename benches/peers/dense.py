"""What cuBLAS does with one dense product, and the floor that follows from its fp16 rate."""

import torch

from check import Error
from timing import precision

SHAPE = (8192, 5760, 2880)  # M, N, K of the product
TINY = (64, 96, 48)
CLASSES = ("fp32", "tf32", "fp16")
FLOOR_PRODUCTS = 3


class Product:
    """A product of 0.1·randn matrices, in several classes of precision."""

    def __init__(self, device, shape):
        M, N, K = shape
        generator = torch.Generator(device).manual_seed(0)
        self.shape = shape
        self.name = f"dense_{M}x{N}x{K}"
        self.operations = 2 * M * N * K
        self.left = torch.randn(M, K, device=device, generator=generator).mul_(0.1)
        self.right = torch.randn(K, N, device=device, generator=generator).mul_(0.1)
        self.expected = self.left.double() @ self.right.double()

    def call(self, name):
        """The product in a class; fp16 means fp16 operands and output, whose rounding counts as error."""
        dtype = torch.float16 if name == "fp16" else torch.float32
        left, right = self.left.to(dtype), self.right.to(dtype)
        return lambda: left @ right


def measure(device, shape, clock, seconds):
    """A record for each class."""
    product = Product(device, shape)
    rows = []
    for name in CLASSES:
        row = {
            "workload": product.name,
            "peer": "cuBLAS" if device == "cuda" else "torch",
            "class": name,
            "shape": list(shape),
        }
        rows.append(row)
        if name == "tf32" and device != "cuda":
            row |= {"status": "unavailable", "reason": "a CPU has no TF32"}
            continue
        with precision(name):
            call = product.call(name)
            error = Error.of(call(), product.expected)
            row |= {"relative_error": error.relative, "max_error": error.maximum}
            if not error.is_within(name):
                row |= {"status": "wrong", "reason": f"the error is beyond what {name} may have"}
                continue
            burst, sustained = clock.burst(call), clock.sustained(call, seconds)
        row |= {
            "status": "ok",
            "mode": "eager",
            "burst_ms": burst,
            "sustained_ms": sustained,
            "tflops": product.operations / burst / 1e9,
        }
    return rows


def floor(workload, dense_rows):
    """The time of three fp16 products for each of the layer's, 3·2·R·H·3I operations, at the dense product's rate:
    what is left when fp32 is made of fp16 products and all else costs nothing."""
    row = {"workload": workload.name, "peer": "floor", "class": "fp32"} | workload.sizes()
    fp16 = next(row for row in dense_rows if row["class"] == "fp16")
    if fp16["status"] != "ok":
        return row | {"status": "unavailable", "reason": f"the dense fp16 product is {fp16['status']}"}
    M, N, K = fp16["shape"]
    share = FLOOR_PRODUCTS * workload.operations / (2 * M * N * K)
    burst = share * fp16["burst_ms"]
    return row | {
        "status": "computed",
        "burst_ms": burst,
        "sustained_ms": share * fp16["sustained_ms"],
        "tflops": workload.operations / burst / 1e9,
    }
