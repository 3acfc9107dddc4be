"""The memory of an input, with guards around it."""

GUARD = 256
# Bytes of an element.
WIDTHS = {"f32": 4, "f64": 8, "f16": 2, "bf16": 2, "i64": 8, "u8": 1}
# NaN in every element type and as the scale of a block, and -1 as an index.
GUARD_BYTES = b"\xff" * GUARD


class Memory:
    """The bytes of a tensor between two guards, which no function may write. What is read there is NaN."""

    def __init__(self, dtype, shape, data, strides=None, offset=0):
        self.dtype = dtype
        self.shape = tuple(shape)
        # Of a view in these bytes, in elements; no strides stand for those of row-major order.
        self.strides = strides
        self.offset = offset
        self.size = len(data)
        self.bytes = bytearray(GUARD + self.size + GUARD)
        self.array = None
        # A copy of it on another device.
        self.kept = None
        self.write(data)

    def holds(self, dtype, shape, data, strides=None, offset=0):
        """Whether a tensor of this type and shape, and the same view, fits in."""
        mine = (self.dtype, self.shape, self.size, self.strides, self.offset)
        return mine == (dtype, tuple(shape), len(data), strides, offset)

    def write(self, data):
        """Puts other bytes in, and the guards in order."""
        self.data = data
        self.bytes[:GUARD] = self.bytes[GUARD + self.size :] = GUARD_BYTES
        self.bytes[GUARD : GUARD + self.size] = data

    def broken(self, name, written):
        """The rule that is broken where a function left these bytes, and what was found; ``None`` where none is."""
        for guard, place in ((written[:GUARD], "before"), (written[GUARD + self.size :], "behind")):
            if guard != GUARD_BYTES:
                at = next(index for index, byte in enumerate(guard) if byte != 0xFF)
                distance = GUARD - at if place == "before" else at + 1
                return "guard-touched", f"{name}: byte {distance} {place} it was written"
        if not written.startswith(self.data, GUARD):
            width = WIDTHS[self.dtype]
            changed = (at for at in range(self.size) if written[GUARD + at] != self.data[at])
            return "input-changed", f"{name}: expected it as it was, found element {next(changed) // width} changed"
        return None
