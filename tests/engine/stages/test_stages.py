"""The stages on the shipped bundles: the same chunk is bit-equal every time, whatever runs beside it."""

import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mothlight.engine.batch import Stage, batches
from mothlight.engine.config import bundle_path
from mothlight.engine.errors import UserError
from mothlight.engine.executor.pipeline import Pipeline, images_of
from mothlight.engine.host import Host
from mothlight.engine.models.bundle import Bundle, load_bundle
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.stages.caption import GraphCaptioner
from mothlight.engine.stages.classify import Classifier, ClassifyStage, GateStage
from mothlight.engine.stages.embed import EmbedStage
from mothlight.engine.stages.encode import QUALITY, EncodeStage, from_jpeg, to_jpeg
from mothlight.engine.stages.generate import DiffusionStage, DrawStage
from mothlight.engine.world.render import Renderer
from tests.engine.conftest import through

PROMPT = Prompt("butterfly", "a realistic photograph of a butterfly (insect). it is in the grass.")
OTHER = Prompt("car", "a realistic photograph of a car (vehicle).")


def bundle(name: str) -> Bundle:
    return load_bundle(bundle_path(f"tinyworld:{name}", Path()))


@pytest.fixture(scope="module")
def generator() -> DiffusionStage:
    return DiffusionStage(bundle("generator"), seed=3, steps=4)


@pytest.fixture(scope="module")
def scenes() -> NDArray[np.uint8]:
    return Renderer(1).images(PROMPT, range(4))


def test_the_same_chunk_twenty_times_is_bit_equal(generator: DiffusionStage) -> None:
    first = images_of(generator, PROMPT, [0, 1, 2, 3])
    assert first.shape == (4, 64, 64, 3)
    assert first.dtype == np.uint8
    assert np.ptp(first) > 50
    for _ in range(19):
        np.testing.assert_array_equal(images_of(generator, PROMPT, [0, 1, 2, 3]), first)


def test_an_image_is_the_same_whatever_other_chunks_run_and_in_whatever_order(generator: DiffusionStage) -> None:
    alone = images_of(generator, PROMPT, [4, 5])
    images_of(generator, OTHER, [9, 1])
    results: dict[int, NDArray[np.uint8]] = {}

    def work(number: int) -> None:
        results[number] = images_of(generator, PROMPT if number % 2 else OTHER, [4, 5])

    threads = [threading.Thread(target=work, args=(number,)) for number in (3, 0, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(results[1], alone)
    np.testing.assert_array_equal(results[3], alone)
    np.testing.assert_array_equal(results[0], results[2])


def test_another_batch_size_moves_a_pixel_by_one_level_at_most(generator: DiffusionStage) -> None:
    batch = images_of(generator, PROMPT, [0, 1, 2, 3, 4]).astype(int)
    one = images_of(generator, PROMPT, [3]).astype(int)
    assert np.abs(batch[3] - one[0]).max() <= 1


def test_prompts_share_their_noise(generator: DiffusionStage) -> None:
    """The same index under two prompts of a label is nearer than two indices are: that is what makes pairs."""
    plain = Prompt("butterfly", "a realistic photograph of a butterfly (insect).")
    a, b = (images_of(generator, p, range(6)).astype(float) for p in (PROMPT, plain))
    paired = np.abs(a - b).mean()
    unpaired = np.abs(a - np.roll(b, 1, axis=0)).mean()
    assert paired < unpaired


def test_a_number_of_steps_that_the_bundle_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="no sampler of 7 steps, but of 6, 4, 8"):
        DiffusionStage(bundle("generator"), seed=0, steps=7)


def test_a_batch_through_all_stages() -> None:
    chunk = Chunk(PROMPT, 0, 5, 0)
    (batch,) = batches(chunk, 6)
    stages: list[Stage] = [
        DrawStage(Renderer(1), 1),
        ClassifyStage(Classifier(bundle("clean-resnet")), 0),
        ClassifyStage(Classifier(bundle("clean-convnext")), 1),
        GateStage(Classifier(bundle("gate"))),
        EmbedStage(bundle("clip")),
    ]
    with Pipeline(Host(), stages, 6, keep=[EncodeStage()]) as pipeline:
        batch = pipeline.once(batch)
    assert not batch.failures
    names = bundle("clean-resnet").manifest.labels
    assert [names[k] for k in batch.arrays["indices_0"][:, 0]].count("butterfly") >= 5
    assert (batch.arrays["gate"] > 0.4).sum() >= 5
    np.testing.assert_allclose(np.linalg.norm(batch.arrays["embedding"], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(batch.arrays["scores_0"].sum(axis=1), 1, atol=0.05)
    assert np.abs(from_jpeg(batch.arrays["jpeg"][0]).astype(int) - batch.arrays["images"][0]).mean() < 4


class Blank:
    """Makes one image of a single colour among noise."""

    size = (64, 64)

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        pass

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        images = np.random.default_rng(0).integers(0, 256, (len(indices), 64, 64, 3), dtype=np.uint8)
        images[[index == 2 for index in indices]] = 7
        assert prompt == PROMPT
        return images


def test_an_image_of_one_colour_is_a_failure() -> None:
    (batch,) = batches(Chunk(PROMPT, 0, 4, 0), 4)
    made = through(DrawStage(Blank(), 1), batch)
    assert made.failures == {2: "the generator made an image of one single colour"}


def test_images_of_another_size_are_resized_inside_the_graph(scenes: NDArray[np.uint8]) -> None:
    large = np.repeat(np.repeat(scenes, 2, axis=1), 2, axis=2)[:, :, :120]
    classifier = Classifier(bundle("clean-resnet"))
    names = classifier.labels
    best = [names[k] for k in classifier.classify(large, "butterfly")["indices"][:, 0]]
    assert best.count("butterfly") >= 3


def test_captions_speak_the_grammar(scenes: NDArray[np.uint8]) -> None:
    captions = [caption.text for caption in GraphCaptioner(bundle("captioner")).caption(scenes)]
    assert len(captions) == 4
    assert all("photograph of" in caption for caption in captions)
    assert sum("in the grass" in caption for caption in captions) >= 2
    assert captions == [caption.text for caption in GraphCaptioner(bundle("captioner")).caption(scenes)]


def test_a_jpeg_is_what_pillow_makes_of_it(scenes: NDArray[np.uint8]) -> None:
    """Captions are said of the stored pictures, and pixels that moved would be other captions."""
    for scene in scenes:
        file = BytesIO()
        Image.fromarray(scene).save(file, "JPEG", quality=QUALITY, subsampling=0)
        np.testing.assert_array_equal(from_jpeg(to_jpeg(scene)), from_jpeg(file.getvalue()))


def test_jpeg_keeps_colours_at_full_resolution() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, ::2, 0] = 255
    assert np.abs(from_jpeg(to_jpeg(image)).astype(int) - image).mean() < 12
