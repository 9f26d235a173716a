"""Plans → batches, leaving out the chunks that the database already holds: this is the whole of resuming."""

from collections.abc import Iterable, Iterator

from mothlight.engine.batch import Batch, batches
from mothlight.engine.records import Chunk, Plan
from mothlight.sql import Store


def missing_chunks(store: Store, plans: Iterable[Plan], size: int) -> list[Chunk]:
    """The chunks of `plans` that are not whole in the database, in their fixed order."""
    done = {chunk_id for (chunk_id,) in store.rows("select chunk_id from chunk")}
    return [chunk for plan in plans for chunk in plan.chunks(size) if chunk.chunk_id not in done]


def all_batches(chunks: Iterable[Chunk], size: int) -> Iterator[Batch]:
    """The batches of each chunk, the same every time."""
    for chunk in chunks:
        yield from batches(chunk, size)
