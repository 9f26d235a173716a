"""Models behind an OpenAI-compatible endpoint (vLLM, vLLM-Omni, SGLang …) as captioner or generator.

Items are sent side by side up to a limit and retried while the server is busy. A request that the server refuses is a
failed item; a server that can't be reached, or that does not know the key or the model, ends the run, which goes on
from there another time. The key is read from an environment variable and stands nowhere else.
"""

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from io import BytesIO
from threading import Event, Semaphore, Thread
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_any,
    stop_when_event_set,
    wait_random_exponential,
)

from mothlight.engine.batch import Batch, Flight, Work
from mothlight.engine.config import ServedCaptioner as CaptionerConfig
from mothlight.engine.config import ServedDescriber as DescriberConfig
from mothlight.engine.config import ServedGenerator as GeneratorConfig
from mothlight.engine.config import ServedModel
from mothlight.engine.device import Buffer, Device, Spec, Stream, spec
from mothlight.engine.errors import UserError
from mothlight.engine.records import Prompt
from mothlight.engine.stages.caption import Caption
from mothlight.engine.stages.encode import to_jpeg
from mothlight.engine.stopping import LOOK, check

BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Answers after which it is worth asking again."""
OURS = frozenset({401, 403, 404, 405})
"""Answers that say that the settings are wrong, not the item."""
REASON = 300
"""Characters of a server's words that are kept."""
FORMATS = ("PNG", "JPEG", "WEBP")
LONGEST_WAIT = 30.0
"""Seconds between two attempts."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class RefusedError(Exception):
    """The server will not do this item."""


class _BusyError(Exception):
    """The server can't do it now."""


class Client:
    """Posts JSON to one endpoint."""

    def __init__(self, config: ServedModel, stop: Event | None = None) -> None:
        """Read the key. When `stop` is set, nobody waits for an answer any more.

        Raises:
            UserError: the variable that holds it is not set.
        """
        self.config = config
        self.key = "" if config.key_variable is None else os.environ.get(config.key_variable, "").strip()
        if config.key_variable is not None and not self.key:
            raise UserError(
                f"The key for {config.url} is read from the variable {config.key_variable}, which is not set."
            )
        if not (self.key.isascii() and self.key.isprintable()):
            raise UserError(f"The key in the variable {config.key_variable} holds characters that no key has.")
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        self.http = httpx.Client(base_url=config.url.rstrip("/") + "/", headers=headers, timeout=config.timeout)
        self.stop = stop or Event()
        self.limit = Semaphore(config.concurrency)  # for all who call: it is the server's, not a batch's
        self.retrying = Retrying(
            stop=stop_any(stop_after_attempt(config.attempts), stop_when_event_set(self.stop)),
            sleep=sleep_using_event(self.stop),
            wait=wait_random_exponential(multiplier=config.first_wait, max=LONGEST_WAIT),
            retry=retry_if_exception(lambda error: isinstance(error, _BusyError | httpx.TransportError)),
            reraise=True,
        )

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request, asked again while the server is busy.

        Raises:
            RefusedError: the server will not, or stays busy.
            UserError: it can't be reached, or the settings are wrong.
        """
        try:
            return self.retrying(self._once, path, body)
        except _BusyError as error:
            raise RefusedError(str(error)) from None
        except httpx.TransportError as error:
            raise UserError(
                f"The server {self.config.url} can't be reached ({type(error).__name__}): start it; the same command "
                f"goes on from there."
            ) from None

    def _once(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        if answer.status_code in BUSY:
            raise _BusyError(f"the server stayed busy: {self._words(answer)}")
        if answer.status_code in OURS:
            raise UserError(
                f"The server {self.config.url} refuses {path} for {self.config.model}: {self._words(answer)}"
            )
        if answer.is_error:
            raise RefusedError(f"the server refused: {self._words(answer)}")
        try:
            value = answer.json()
        except ValueError:
            raise RefusedError(f"the server's answer is no JSON: {self._words(answer)}") from None
        if not isinstance(value, dict):
            raise RefusedError("the server's answer is no JSON object")
        return value

    def _words(self, answer: httpx.Response) -> str:
        """What the server says, short, in one line, and without the key."""
        text = " ".join(answer.text.split())
        if self.key:
            text = text.replace(self.key, "…")
        return f"{answer.status_code} {text[:REASON]}".strip()

    def side_by_side(self, work: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """`work` on each item, up to the limit at once, in order.

        Raises:
            KeyboardInterrupt: `stop` was set first.
        """
        begun: list[Future[Answer]] = []
        for item in items:
            begun.append(Future())
            # a thread of its own ends with the process, whatever it waits for, which those of a pool don't
            Thread(target=self._run, args=(begun[-1], work, item), name="ask", daemon=True).start()
        return [self._answer(one) for one in begun]

    def _run(self, answer: "Future[Answer]", work: Callable[[Item], Answer], item: Item) -> None:
        with self.limit:
            try:
                check(self.stop)
                answer.set_result(work(item))
            except BaseException as error:  # noqa: BLE001  # raised again where the answer is waited for
                answer.set_exception(error)

    def _answer(self, begun: "Future[Answer]") -> Answer:
        while not wait([begun], LOOK).done:
            check(self.stop)
        check(self.stop)  # one that was given up is no refusal
        return begun.result()


class ServedCaptioner:
    """A captioner that answers `chat/completions` with an image."""

    fixed_size = False

    def __init__(self, config: CaptionerConfig, stop: Event | None = None) -> None:
        self.client = Client(config, stop)
        self.config = config

    def caption(self, images: NDArray[np.uint8]) -> list[Caption]:
        """See `Captioner`; a refusal is kept with its reason."""
        return self.client.side_by_side(self._one, list(images))

    def _one(self, image: NDArray[np.uint8]) -> Caption:
        picture = base64.b64encode(to_jpeg(image)).decode("ascii")
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}},
            {"type": "text", "text": self.config.question},
        ]
        body = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.config.max_tokens,
            "temperature": 0,
            "seed": 0,
        }
        try:
            return _caption_in(self.client.post("chat/completions", body))
        except RefusedError as refused:
            return Caption("", refused=str(refused))


class ServedProposer:
    """A language model that says what sets some captions apart from others, over `chat/completions`."""

    def __init__(self, config: DescriberConfig, stop: Event | None = None) -> None:
        self.client = Client(config, stop)
        self.config = config

    def propose(self, failing: Sequence[str], passing: Sequence[str], seed: int) -> str:
        """The model's words; empty where it refuses. Captions are data: one a line, whatever stands in them."""
        groups = (f"Group {name}:\n" + "\n".join(f"- {' '.join(one.split())}" for one in own)
                  for name, own in (("A", failing), ("B", passing)))  # fmt: skip
        body = {
            "model": self.config.model,
            "messages": [
                {"role": "system", "content": self.config.question},
                {"role": "user", "content": "\n\n".join(groups)},
            ],
            "max_tokens": self.config.max_tokens,
            "temperature": 0,
            "seed": seed,
        }
        try:
            (answer,) = self.client.side_by_side(partial(self.client.post, "chat/completions"), [body])
            message = answer["choices"][0]["message"]
            return "" if message.get("refusal") else str(message["content"] or "")
        except (RefusedError, KeyError, IndexError, TypeError, AttributeError):
            return ""


def _caption_in(answer: dict[str, Any]) -> Caption:
    try:
        message = answer["choices"][0]["message"]
        text = message["content"] or ""
    except (KeyError, IndexError, TypeError):
        return Caption("", refused="the server's answer holds no message")
    if message.get("refusal"):
        return Caption("", refused=f"the model refused: {str(message['refusal'])[:REASON]}")
    text = " ".join(str(text).split())
    return Caption(text) if text else Caption("", refused="the model said nothing")


class ServedGenerateStage:
    """A generator that answers `images/generations`; an image that is refused is a failed item.

    The seed that is passed on depends on the audit's seed, the label and the index alone: the server makes pairs.
    """

    name = "generate"
    reads: Sequence[str] = ()
    lanes = 4
    """Batches whose requests wait together for the pool."""
    on_host = True
    prompt_bytes = 0

    def __init__(self, config: GeneratorConfig, seed: int, stop: Event | None = None) -> None:
        self.client = Client(config, stop)
        self.config = config
        self.seed = seed

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Nothing to do: the server reads texts."""

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """See `Stage`."""
        del device, slots, given
        return _Asked(self, {"images": spec((size, self.config.size, self.config.size, 3), np.uint8)})

    def finish(self, batch: Batch) -> Batch:
        """See `Stage`: all was noted when it was asked."""
        return batch

    def ask(self, batch: Batch, images: NDArray[np.uint8]) -> dict[int, str]:
        """Fill in the images, black where there is none; says why, by index."""
        made = self.client.side_by_side(lambda index: self._one(batch.chunk.prompt, index), list(batch.indices))
        images[...] = 0
        failures = {}
        for row, (index, one) in enumerate(zip(batch.indices, made, strict=True)):
            if isinstance(one, str):
                failures[index] = one
            else:
                images[row] = one
        return failures

    def _one(self, prompt: Prompt, index: int) -> NDArray[np.uint8] | str:
        """An image, or why there is none."""
        body = {
            **self.config.options,
            "model": self.config.model,
            "prompt": prompt.text,
            "n": 1,
            "size": f"{self.config.size}x{self.config.size}",
            "response_format": "b64_json",
            "seed": item_seed(self.seed, prompt.label, index),
        }
        try:
            answer = self.client.post("images/generations", body)
        except RefusedError as refused:
            return str(refused)
        return _image_in(answer, self.config.size)


@dataclass(frozen=True)
class _Asked:
    stage: ServedGenerateStage
    makes: Mapping[str, Spec]

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        images = arrays["images"]

        def ask() -> None:
            flight.noted[self.stage.name] = self.stage.ask(flight.batch, images.array)

        stream.run(ask, writes=[images])


def item_seed(seed: int, label: str, index: int) -> int:
    """What a server is given as the seed of an item: 31 bits, the same under every prompt of the label."""
    digest = blake2b(f"{seed}\0{index}\0{label}".encode(), digest_size=4, person=b"mothlight-serve1").digest()
    return int.from_bytes(digest, "little") >> 1


def _image_in(answer: dict[str, Any], side: int) -> NDArray[np.uint8] | str:
    try:
        raw = base64.b64decode(answer["data"][0]["b64_json"], validate=True)
        with Image.open(BytesIO(raw), formats=FORMATS) as image:
            if image.size != (side, side):
                return f"the server made an image of {image.size[0]} × {image.size[1]} pixels, not {side} × {side}"
            pixels = np.asarray(image.convert("RGB"))
    except (KeyError, IndexError, TypeError):
        return "the server's answer holds no image"
    except (ValueError, OSError, Image.DecompressionBombError):
        return "the server's image can't be read"
    flat = pixels.reshape(-1)
    return "the generator made an image of one single colour" if (pixels == flat[:3]).all() else pixels
