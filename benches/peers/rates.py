"""What an H100 with 80 GB of HBM3 reached: bytes a second of a kernel that only reads memory, and operations a second
of cuBLAS with a bf16 product of 8192 x 8192 x 8192, in short bursts. Floors are times at these rates."""

BYTES_A_SECOND = 3.11e12
OPERATIONS_A_SECOND = 774e12
