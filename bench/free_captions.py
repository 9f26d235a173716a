"""A captioner behind an endpoint that tells tinyworld's scenes as people do, with what people leave out and get wrong.

One sentence, in one of several orders, with synonyms; half of what is to be seen is left out, and 15 % of the rest is
wrong. What it sees it reads from the picture, by the built-in captioner. The same picture gets the same words.
"""

import base64
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import numpy as np

from mothlight.engine.config import bundle_path
from mothlight.engine.models.bundle import load_bundle
from mothlight.engine.stages.caption import build_captioner
from mothlight.engine.stages.encode import from_jpeg
from mothlight.engine.world.scene import ATTRIBUTES, LABELS, mentioned

LEFT_OUT, WRONG = 0.5, 0.15
PLACES: dict[str, tuple[str, ...]] = {
    "on a flower": ("on a flower", "sitting on a blossom", "on a pretty flower"),
    "on a leaf": ("on a leaf", "resting on a green leaf"),
    "on a plate": ("on a plate", "served on a plate", "on a dish"),
    "on the sand": ("on the sand", "on a sandy beach"),
    "on stones": ("on stones", "on some pebbles", "among rocks"),
    "in the grass": ("in the grass", "on a grassy lawn"),
    "on wood": ("on a wooden table", "on wood"),
    "on the snow": ("on snow", "on snowy ground"),
}
LIGHTS: dict[str, tuple[str, ...]] = {
    "day": ("in daylight", "during the day"),
    "dusk": ("at dusk", "at sunset"),
    "night": ("at night", "in the dark"),
}
WEATHERS: dict[str, tuple[str, ...]] = {
    "clear": ("under a clear sky",),
    "rain": ("in the rain", "on a rainy day"),
    "fog": ("in the fog", "in thick mist"),
    "falling snow": ("while it is snowing", "with snowflakes falling"),
}
FRONTS: dict[str, tuple[str, ...]] = {
    "nothing": ("",),
    "a net": ("caught in a net", "behind netting"),
    "twigs": ("behind twigs", "among some branches"),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "usual": ("",),
    "red": ("red", "crimson"),
    "blue": ("blue", "bluish"),
    "golden": ("golden",),
}
COUNTS: dict[str, tuple[str, ...]] = {"one": ("",), "two": ("two", "a pair of")}
POSES: dict[str, tuple[str, ...]] = {"upright": ("",), "upside down": ("upside down", "turned upside down")}
WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "place": PLACES,
    "light": LIGHTS,
    "weather": WEATHERS,
    "front": FRONTS,
    "colour": COLOURS,
    "count": COUNTS,
    "pose": POSES,
}


def told(caption: str, key: object) -> str:
    """A caption in the grammar's sentences, told freely; the same for the same key."""
    rng = random.Random(str(key))  # noqa: S311  # nothing secret
    seen = mentioned(caption)
    parts = dict.fromkeys(WORDS, "")
    for name, value in seen.items():
        if rng.random() < LEFT_OUT:
            continue
        if rng.random() < WRONG:
            value = rng.choice(list(ATTRIBUTES[name]))  # noqa: PLW2901  # what it says in its place
        parts[name] = rng.choice(WORDS[name][value])
    label = next((name for name in LABELS if name in caption), "thing")
    many = bool(parts["count"])
    noun = f"{parts['count'] or 'a'} {parts['colour']} {label}{'s' if many else ''}"
    rest = [parts[name] for name in ("place", "light", "weather", "front", "pose") if parts[name]]
    rng.shuffle(rest)
    opening = rng.choice(("", "a picture of ", "there is ", "we see "))
    return " ".join(f"{opening}{noun} {' '.join(rest)}".split())


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_POST(self) -> None:
        """Answer `chat/completions` with an image."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = next(part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url")
        jpeg = base64.b64decode(url.partition(",")[2])
        text = self.server.caption(jpeg)
        answer = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.captioner = build_captioner(load_bundle(bundle_path("tinyworld:captioner", Path())))
        self.lock = Lock()

    def caption(self, jpeg: bytes) -> str:
        with self.lock:
            (caption,) = self.captioner.caption(np.stack([from_jpeg(jpeg)]))
        return told(caption.text, blake2b(jpeg, digest_size=8).hexdigest())


@contextmanager
def served() -> Iterator[str]:
    """Inside, the captioner is served at the URL that this gives."""
    server = _Server()
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
