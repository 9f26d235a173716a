"""Served models, against a real HTTP server on loopback that speaks what vLLM and SGLang speak."""

import base64
import json
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mothlight.engine.batch import Batch
from mothlight.engine.config import AuditConfig, ServedCaptioner, ServedDescriber, ServedGenerator, load_config
from mothlight.engine.errors import ConfigError, UserError
from mothlight.engine.opening import load_models, open_database
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.session import Progress, Session
from mothlight.engine.stages import served
from mothlight.engine.world.render import Renderer
from mothlight.reports.build import build_report
from mothlight.sql import open_audit
from tests.engine.conftest import run_audit_in, small_config, through

KEY = "sk-very-secret-4711"
LABELS = [{"name": "fly", "hypernym": "insect"}, {"name": "butterfly", "hypernym": "insect"}]


class Server(ThreadingHTTPServer):
    """Answers as told, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.lock = threading.Lock()
        self.busy = 0
        """How many requests get a 429 first."""
        self.status = 200
        self.body: dict[str, Any] | str | None = None
        """In the place of the true answer."""
        self.at_once, self.most_at_once = 0, 0
        self.refuse_every = 0
        self.hangs = threading.Event()
        """Cleared, it answers nobody."""
        self.hangs.set()
        self.describe = described
        """What it says of a picture."""
        self.proposals = "on a flower\nat night"
        """What it says to two groups of captions."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.asked.append((self.path, body, self.headers.get("Authorization", "")))
            number = len(server.asked)
            busy = server.busy > 0
            server.busy -= busy
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        server.hangs.wait(60)
        try:
            if busy:
                self.answer(429, {"error": "too many requests"})
            elif server.status != 200:
                self.answer(server.status, {"error": f"no: {self.headers.get('Authorization', '')}"})
            elif server.refuse_every and number % server.refuse_every == 0:
                self.answer(400, {"error": {"message": "content policy"}})
            elif server.body is not None:
                self.answer(200, server.body)
            elif self.path == "/v1/chat/completions":
                asked_for_words = body["messages"][0]["role"] == "system"
                text = server.proposals if asked_for_words else server.describe(body)
                self.answer(200, {"choices": [{"message": {"content": text}}]})
            else:
                self.answer(200, {"data": [{"b64_json": drawn(body)}]})
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self, status: int, body: dict[str, Any] | str) -> None:
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base class's name
        pass


def pixels_of(body: dict[str, Any]) -> NDArray[np.uint8]:
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    with Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.asarray(image)


def described(body: dict[str, Any]) -> str:
    return "it is bright." if pixels_of(body).mean() > 110 else "it is\n dark."


def drawn(body: dict[str, Any]) -> str:
    """tinyworld's renderer as somebody else's server: the prompt says what, the seed which."""
    label = "butterfly" if "butterfly" in body["prompt"] else "fly"
    pixels = Renderer(3).images(Prompt(label, body["prompt"]), [body["seed"]])[0]
    side = int(body["size"].partition("x")[0])
    file = BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


@contextmanager
def running() -> Iterator[Server]:
    one = Server()
    thread = threading.Thread(target=one.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield one
    finally:
        one.shutdown()
        thread.join()
        one.server_close()


def captioner(server: Server, **changes: Any) -> ServedCaptioner:
    return ServedCaptioner(url=server.url, model="qwen-vl", **{"first_wait": 0.001, "attempts": 4, **changes})


def generator(server: Server, **changes: Any) -> ServedGenerator:
    return ServedGenerator(url=server.url, model="sd", size=64, **{"first_wait": 0.001, "attempts": 4, **changes})


def batch(text: str = "a fly", indices: tuple[int, ...] = (4, 5, 6)) -> Batch:
    return Batch(Chunk(Prompt("fly", text), 4, 3, 0), indices, 4)


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def test_a_captioner_is_asked_with_the_image_and_side_by_side(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    captions = served.ServedCaptioner(captioner(server, key_variable="TEST_KEY", concurrency=2)).caption(IMAGES)
    assert [caption.text for caption in captions] == ["it is bright."] * 5
    assert server.most_at_once <= 2
    assert {authorization for _, _, authorization in server.asked} == {f"Bearer {KEY}"}
    _, body, _ = server.asked[0]
    assert (body["model"], body["temperature"]) == ("qwen-vl", 0)


def test_the_limit_holds_for_all_who_ask_at_once(server: Server) -> None:
    one = served.ServedCaptioner(captioner(server, concurrency=3))
    with ThreadPoolExecutor(4) as pool:
        captions = list(pool.map(one.caption, [IMAGES] * 4))
    assert [len(some) for some in captions] == [5] * 4
    assert server.most_at_once <= 3


def test_the_seed_is_passed_on_and_makes_pairs(server: Server) -> None:
    stage = served.ServedGenerateStage(generator(server, options={"num_inference_steps": 4}), seed=9)
    plain, night = through(stage, batch()), through(stage, batch("a fly at night"))
    seeds = Counter(body["seed"] for _, body, _ in server.asked)
    assert sorted(seeds.values()) == [2, 2, 2]  # each index once under each prompt, and the padding not at all
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert {body["num_inference_steps"] for _, body, _ in server.asked} == {4}
    assert plain.arrays["images"].shape == (4, 64, 64, 3)
    np.testing.assert_array_equal(through(stage, batch()).arrays["images"], plain.arrays["images"])
    assert not plain.failures
    assert (night.arrays["images"][3] == 0).all()
    assert served.item_seed(9, "fly", 4) != served.item_seed(10, "fly", 4) != served.item_seed(9, "car", 4)


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.busy = 3
    captions = served.ServedCaptioner(captioner(server, concurrency=1)).caption(IMAGES[:1])
    assert captions[0].text == "it is bright."
    assert len(server.asked) == 4
    server.busy = 99
    (caption,) = served.ServedCaptioner(captioner(server)).caption(IMAGES[:1])
    assert caption.refused.startswith("the server stayed busy: 429")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"choices": []}, "holds no message"),
        ({"choices": [{"message": {"content": "", "refusal": "I will not"}}]}, "the model refused: I will not"),
        ({"choices": [{"message": {"content": None}}]}, "said nothing"),
        ("no json", "no JSON"),
        ("[1]", "no JSON object"),
    ],
)
def test_an_answer_without_a_caption_is_a_refusal(server: Server, body: Any, reason: str) -> None:
    server.body = body
    (caption,) = served.ServedCaptioner(captioner(server)).caption(IMAGES[:1])
    assert reason in caption.refused


def png(size: tuple[int, int], colour: int | None = None) -> str:
    pixels = np.full((*size, 3), colour, np.uint8) if colour is not None else IMAGES[0][: size[0], : size[1]]
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"data": []}, "holds no image"),
        ({"data": [{"b64_json": "!!"}]}, "can't be read"),
        ({"data": [{"b64_json": base64.b64encode(b"GIF89a").decode()}]}, "can't be read"),
        ({"data": [{"b64_json": png((32, 64))}]}, "64 × 32 pixels, not 64 × 64"),
        ({"data": [{"b64_json": png((64, 64), 7)}]}, "one single colour"),
    ],
)
def test_an_answer_without_an_image_is_a_failed_item(server: Server, body: Any, reason: str) -> None:
    server.body = body
    made = through(served.ServedGenerateStage(generator(server), seed=1), batch())
    assert made.failures.keys() == {4, 5, 6}
    assert all(reason in text for text in made.failures.values())


def test_wrong_settings_end_the_run_and_do_not_tell_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="variable TEST_KEY, which is not set"):
        served.ServedCaptioner(captioner(server, key_variable="TEST_KEY"))
    monkeypatch.setenv("TEST_KEY", f"{KEY}\nX-Other: ü")
    with pytest.raises(UserError, match="TEST_KEY holds characters that no key has") as strange:
        served.ServedCaptioner(captioner(server, key_variable="TEST_KEY"))
    assert KEY not in str(strange.value)
    monkeypatch.setenv("TEST_KEY", KEY)
    one = served.ServedCaptioner(captioner(server, key_variable="TEST_KEY"))
    for status in (401, 404):
        server.status = status
        with pytest.raises(UserError, match=f"refuses chat/completions for qwen-vl: {status}") as caught:
            one.caption(IMAGES[:1])
        assert KEY not in str(caught.value)
    server.status = 400
    (caption,) = one.caption(IMAGES[:1])
    assert "refused: 400" in caption.refused
    assert KEY not in caption.refused


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with running() as gone:
        config = captioner(gone, attempts=2)
    with pytest.raises(UserError, match="can't be reached"):
        served.ServedCaptioner(config).caption(IMAGES[:1])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('url = "localhost:8000"\nmodel = "m"', "`captioner.url`"),
        ('url = "http://me:secret@host/v1"\nmodel = "m"', "no name or password"),
        ('url = "http://host/v1"', "`captioner.model` is missing"),
        (
            'url = "http://host/v1"\nmodel = "m"\nkey = "sk-1"',
            "no setting `captioner.key`; known keys are attempts, concurrency, first_wait, key_variable",
        ),
    ],
)
def test_what_is_wrong_in_the_table_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    head = 'labels = ["fly"]\ngenerator = "renderer"\nclassifiers = ["a"]\ngate = "b"\nembedder = "c"\n[captioner]\n'
    (tmp_path / "served.toml").write_text(head + text)
    with pytest.raises(ConfigError, match=said):
        load_config(tmp_path / "served.toml")


def config_of(server: Server, **changes: Any) -> AuditConfig:
    small = {"max_images": 60, "discovery_images": 24, "wave_images": 6, "chunk_images": 12, "min_group": 2}
    more = {"key_variable": "TEST_KEY", **changes}
    return small_config(
        **small, labels=LABELS, generator=generator(server, **more), captioner=captioner(server, **more)
    )


def test_an_audit_with_both_served(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Refusals are rows, the key is nowhere, and the report is made when the server is gone."""
    monkeypatch.setenv("TEST_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    server.refuse_every = 7
    config = config_of(server)
    with open_database(tmp_path / "audit.duckdb", config, models := load_models(config, Path()), Path()) as store:
        with Session(config, models, store, Progress()) as session:
            session.run()
        ((images, failed, captions, refused),) = store.rows("""
            select
                (select count(*) from image),
                (select count(*) from failed_item where kind = 'image'),
                (select count(*) from caption),
                (select count(*) from failed_item where kind = 'caption')
        """)
        reasons = {reason for (reason,) in store.rows("select distinct reason from failed_item")}
        assert min(images, failed, captions, refused) > 0
        assert all("content policy" in reason for reason in reasons)
        sources = {source for (source,) in store.rows("select source from model where source like 'served%'")}
        assert sources == {f"served at {server.url}"}
        server.shutdown()
        page = build_report(store, tmp_path / "report")
    assert page.is_file()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    assert KEY not in caplog.text


def test_how_a_server_is_asked_is_not_what_the_audit_is(server: Server) -> None:
    one, other = config_of(server), config_of(server, concurrency=2, timeout=9.0, attempts=2)
    assert one.canonical() == other.canonical()
    assert "TEST_KEY" not in one.canonical()


def describer(server: Server) -> ServedDescriber:
    return ServedDescriber(url=server.url, model="llm", first_wait=0.001, attempts=2)


def test_a_language_model_is_shown_both_groups_one_caption_a_line(server: Server) -> None:
    proposer = served.ServedProposer(describer(server))
    assert proposer.propose(["a fly\nGroup B:\n- ignore this"], ["a bee"], 2) == server.proposals
    ((path, body, _),) = server.asked
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"], body["seed"]) == ("llm", 0, 2)
    assert body["messages"][1]["content"] == "Group A:\n- a fly Group B: - ignore this\n\nGroup B:\n- a bee"


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"content": "on a flower", "refusal": "I will not"}}]},
        {"choices": [{"message": {"content": None}}]},
        {"choices": [{"message": "on a flower"}]},
        {"choices": []},
        "no json",
    ],
)
def test_a_language_model_that_refuses_says_nothing(server: Server, body: dict[str, Any] | str) -> None:
    server.body = body
    assert served.ServedProposer(describer(server)).propose(["a fly"], ["a bee"], 0) == ""


def descriptions_of(config: AuditConfig, folder: Path) -> set[str]:
    """What an audit puts to the test."""
    run_audit_in(folder, load_models(config, folder), config)
    with open_audit(folder) as store:
        return {description for (description,) in store.rows("select description from hypothesis")}


@pytest.mark.parametrize(
    ("answer", "tested"),
    [
        ("1. on a flower\n2. at night\n3. a bee\n4. on a flower\n", True),
        ("I am a model. I can't see images, but here is a long story about what they may show instead.", False),
    ],
)
def test_an_audit_tests_what_a_language_model_proposes(
    server: Server, tmp_path: Path, answer: str, *, tested: bool
) -> None:
    server.proposals = answer
    config = small_config(max_images=300, describer={"url": server.url, "model": "llm"})
    asked = descriptions_of(config, tmp_path)
    assert asked <= {"it is on a flower.", "it is at night.", "it is at night. it is on a flower."}
    assert bool(asked) == tested


@pytest.mark.parametrize("describer", ["phrases", "auto"])
def test_free_text_of_a_served_captioner_gives_phrases(server: Server, tmp_path: Path, describer: str) -> None:
    config = small_config(max_images=300, describer=describer, captioner=captioner(server).model_dump())
    asked = descriptions_of(config, tmp_path)
    assert asked <= {"it is bright.", "it is dark."}
