from pathlib import Path

import numpy as np
import pytest

from mothlight.engine.records import Prompt
from mothlight.engine.world.render import Renderer, render
from mothlight.engine.world.scene import ATTRIBUTES, LABELS, SENTENCES, mentioned, sample_scene


def test_scenes_are_those_that_the_weights_were_trained_on(root: Path) -> None:
    """48 pictures of the renderer that made the training data; another Pillow may move an edge by a little."""
    gold = np.load(root / "tests" / "gold" / "scenes.npz")["images"].astype(int)
    drawn = np.stack([render(sample_scene("gold", label, index)) for label in LABELS for index in range(4)]).astype(int)
    assert drawn.shape == gold.shape
    assert np.abs(drawn - gold).mean() < 0.5


def test_priors_add_up() -> None:
    for values in ATTRIBUTES.values():
        assert sum(prior for prior, _ in values.values()) == pytest.approx(1)


def test_an_attribute_changes_nothing_else() -> None:
    plain = sample_scene(0, "fly", 3)
    other = sample_scene(0, "fly", 3, {"light": "night"})
    assert other.light == "night"
    assert {n: getattr(plain, n) for n in ATTRIBUTES if n != "light"} == {
        n: getattr(other, n) for n in ATTRIBUTES if n != "light"
    }


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_sentence_fixes_its_attribute(sentence: str) -> None:
    name, value = SENTENCES[sentence]
    assert mentioned(f"a realistic photograph of a fly (insect). {sentence} and more.") == {name: value}


def test_an_image_does_not_depend_on_its_batch() -> None:
    renderer, prompt = Renderer(seed=5), Prompt("snail", "a realistic photograph of a snail (mollusc). it is raining.")
    batch = renderer.images(prompt, [4, 9, 2])
    np.testing.assert_array_equal(batch[1], renderer.images(prompt, [9])[0])
    assert batch.shape == (3, 64, 64, 3)
    assert batch.dtype == np.uint8
