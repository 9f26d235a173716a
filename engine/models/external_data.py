"""Finds the external-data files that an ONNX graph names, without the onnx package."""

from collections.abc import Iterator

EXTERNAL = 1 << 30
"""Bytes of weights from which they lie in a file beside the graph: protobuf ends at 2 GiB."""

# Field numbers of onnx.proto that lead from a message to its tensors: field → message kind.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def external_locations(message: memoryview, kind: str = "model") -> Iterator[str]:
    """Every external-data location anywhere in a serialised `ModelProto`.

    Raises:
        ValueError, IndexError, RecursionError: the bytes are no ONNX message.
    """
    if kind == "entry":
        fields = {number: bytes(value) for number, value in _fields(message)}
        if fields.get(1) == b"location":
            yield fields.get(2, b"").decode("utf-8")
        return
    paths = _PATHS[kind]
    for number, value in _fields(message):
        if number in paths:
            yield from external_locations(value, paths[number])


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, payload) of every length-delimited field of a protobuf message."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            _, at = _varint(message, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            length, at = _varint(message, at)
            if at + length > end:
                raise ValueError("truncated message")
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError("unknown wire type")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("varint too long")
