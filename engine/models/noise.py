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
    size = prod(shape)
    blocks = -(-size // 4)
    block = np.arange(blocks, dtype=np.uint64)[None, :]
    index = np.array(indices, dtype=np.uint64)[:, None]
    counter = np.stack(np.broadcast_arrays(block, np.uint64(step), index & MASK, index >> HALF_WORD))
    uniform = (philox(counter, noise_key(seed, label, purpose)).astype(np.float64) + 0.5) / 2.0**32
    radius = np.sqrt(-2 * np.log(uniform[0::2]))
    angle = 2 * np.pi * uniform[1::2]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)  # (2, images, blocks, 2)
    flat = normal.transpose(1, 2, 0, 3).reshape(len(indices), 4 * blocks)
    return flat[:, :size].astype(np.float32).reshape(len(indices), *shape)
