"""Counter-based noise: an image's noise depends on what the image is, never on where or when it is made.

Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) maps a key and a counter to 128
random bits. The key stands for the audit's seed, the label and the purpose; the counter holds the image's index, the
sampler step and the position within the image. So image *i* has the same noise in every batch, worker and prompt.
"""

import hashlib
from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.device import Kernel

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)
HALF_WORD = np.uint64(32)


def noise_key(seed: int, label: str, purpose: str) -> tuple[int, int]:
    """The 64-bit Philox key of a seed, a label and a purpose, as two 32-bit words."""
    digest = hashlib.blake2b(digest_size=8, person=b"mothlight-noise1")
    for part in (str(seed), label, purpose):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    key = digest.digest()
    return int.from_bytes(key[:4], "little"), int.from_bytes(key[4:], "little")


def philox(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """The 4x32-10 bijection: four 32-bit words (held in uint64, shape (4, ...)) to four others."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        left, right = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (right >> HALF_WORD) ^ c1 ^ np.uint64(k0),
            right & MASK,
            (left >> HALF_WORD) ^ c3 ^ np.uint64(k1),
            left & MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def noise(
    seed: int, label: str, indices: Sequence[int], step: int, purpose: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Standard normal noise of several images, (len(indices), *shape) float32.

    Row *k* depends on `indices[k]` alone, whatever the other indices are. The bits are exact everywhere; the normals
    (Box–Muller in float64, rounded to float32) are as exact as the platform's `log`, `cos` and `sin`.

    Raises:
        ValueError: an index is outside 0 … 2^64 - 1, or a step outside 0 … 2^32 - 1.
    """
    if not 0 <= step < 1 << 32 or any(not 0 <= index < 1 << 64 for index in indices):
        msg = f"noise index or step out of range: {list(indices)}, step {step}"
        raise ValueError(msg)
    return _normal(np.array(indices, dtype=np.uint64), noise_key(seed, label, purpose), step, shape)


def _normal(
    indices: NDArray[np.uint64], key: tuple[int, int], step: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    size = prod(shape)
    blocks = -(-size // 4)
    block = np.arange(blocks, dtype=np.uint64)[None, :]
    index = indices[:, None]
    counter = np.stack(np.broadcast_arrays(block, np.uint64(step), index & MASK, index >> HALF_WORD))
    uniform = (philox(counter, key).astype(np.float64) + 0.5) / 2.0**32
    radius = np.sqrt(-2 * np.log(uniform[0::2]))
    angle = 2 * np.pi * uniform[1::2]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)  # (2, images, blocks, 2)
    flat = normal.transpose(1, 2, 0, 3).reshape(len(indices), 4 * blocks)
    return flat[:, :size].astype(np.float32).reshape(len(indices), *shape)


def _fill(
    indices: NDArray[np.uint64],
    target: NDArray[np.float32],
    low: np.uint32,
    high: np.uint32,
    step: np.uint32,
    scale: np.float32,
    *_: np.generic,
) -> None:
    target[...] = _normal(indices, (int(low), int(high)), int(step), target.shape[1:]) * scale


NORMAL = Kernel(
    "normal",
    _fill,
    """
extern "C" __global__ void normal(
    const unsigned long long* indices, float* target,
    unsigned low, unsigned high, unsigned step, float scale, unsigned images, unsigned size)
{
    const unsigned blocks = (size + 3) / 4;
    const unsigned long long count = (unsigned long long)images * blocks;
    const unsigned long long stride = (unsigned long long)gridDim.x * blockDim.x;
    for (unsigned long long k = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x; k < count; k += stride) {
        const unsigned image = k / blocks, block = k % blocks;
        const unsigned long long index = indices[image];
        unsigned c0 = block, c1 = step, c2 = (unsigned)index, c3 = (unsigned)(index >> 32), k0 = low, k1 = high;
        for (int round = 0; round < 10; ++round) {
            const unsigned long long left = 0xD2511F53ull * c0, right = 0xCD9E8D57ull * c2;
            const unsigned n0 = (unsigned)(right >> 32) ^ c1 ^ k0, n2 = (unsigned)(left >> 32) ^ c3 ^ k1;
            c1 = (unsigned)right;
            c3 = (unsigned)left;
            c0 = n0;
            c2 = n2;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        const unsigned words[4] = {c0, c1, c2, c3};
        for (int pair = 0; pair < 2; ++pair) {
            const double u = (words[2 * pair] + 0.5) / 4294967296.0, v = (words[2 * pair + 1] + 0.5) / 4294967296.0;
            const double radius = sqrt(-2.0 * log(u)), angle = 2.0 * 3.14159265358979323846 * v;
            const double made[2] = {radius * cos(angle), radius * sin(angle)};
            for (int half = 0; half < 2; ++half) {
                const unsigned place = 4 * block + 2 * pair + half;
                if (place < size) target[(unsigned long long)image * size + place] = (float)made[half] * scale;
            }
        }
    }
}
""",
)
"""Fills a buffer (images, …) with noise times a scale; takes the indices and what `noise_scalars` gives."""


def noise_scalars(key: tuple[int, int], step: int, shape: Sequence[int], scale: float) -> list[np.generic]:
    """What `NORMAL` is told for a target of this shape."""
    images, size = shape[0], prod(shape[1:])
    return [*(np.uint32(word) for word in (*key, step)), np.float32(scale), np.uint32(images), np.uint32(size)]
