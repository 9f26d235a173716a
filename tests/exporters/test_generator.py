"""What generators may be told: samplers, guidance, negative prompts, tiny decoders, LoRA, library text encoders."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.executor.pipeline import images_of
from mothlight.engine.models.bundle import load_bundle
from mothlight.engine.records import Prompt
from mothlight.engine.stages.generate import DiffusionStage
from mothlight.exporters import graphs
from mothlight.exporters.backends import load_backend
from mothlight.exporters.export import export, prepare, verify
from mothlight.exporters.generator import PSNR, drawn_from
from mothlight.exporters.generators.flux import Flux
from mothlight.exporters.generators.sana_sprint import SanaSprint
from mothlight.exporters.libraries import quiet
from mothlight.exporters.options import Options, options_of
from mothlight.exporters.sampler import SAMPLERS, Convention, sampler_class, sampler_table
from mothlight.exporters.verify import require_sound, verify_graph
from tests.exporters import tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
quiet()
SHAPE = (2, 4, 8, 8)
PROMPTS = [Prompt("fly", "a photo of a fly"), Prompt("fly", "a photo of a fly at night")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion, not to be changed."""
    return tiny.stable_diffusion(tmp_path_factory.mktemp("plain") / "source")


class Even(Convention):
    """Schedulers that want to be told more than the number of steps."""

    def start(self, scheduler: Any, steps: int) -> torch.Tensor:
        if type(scheduler).__name__ != "SCMScheduler":
            return super().start(scheduler, steps)
        return SanaSprint.start(SanaSprint.__new__(SanaSprint), scheduler, steps)

    def noise_scale(self, scheduler: Any) -> float:
        return float(getattr(scheduler, "init_noise_sigma", 1.0))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_is_its_rows(sampler: str, steps: int, prediction: str) -> None:
    """A whole loop on a stand-in model, by the scheduler itself and by the table, with the same fresh noise."""
    name, changes = SAMPLERS[sampler]
    own = {} if sampler in ("scm", "flow-euler") else {"prediction_type": prediction}
    scheduler = getattr(tiny.diffusers, name)(**changes, **own)
    how = Even()
    table = sampler_table(scheduler, steps, how)
    assert len(table.rows) == steps
    generator = torch.Generator().manual_seed(2)
    noises = [torch.randn(SHAPE, generator=generator) for _ in range(steps + 1)]
    library = type(scheduler).from_config(scheduler.config)
    timesteps = how.start(library, steps)
    x = noises[0] * how.noise_scale(library)
    with drawn_from(library, lambda step: noises[step]):
        for t in timesteps:
            x = library.step(torch.tanh(how.model_input(library, x, t) + t / 500), t, x).prev_sample

    ours = tiny.sampled(table, lambda step: noises[step].numpy())
    np.testing.assert_allclose(ours, x.numpy(), atol=3e-4 * max(1.0, float(x.abs().max())))


def test_an_unknown_sampler_says_which_there_are() -> None:
    with pytest.raises(UserError, match="choose one of euler, euler-ancestral, ddim"):
        sampler_class("heun")


def test_options_are_kept_and_read_again() -> None:
    options = Options(steps=(4, 2), guidance=3.5, lora="x", gate=True)
    assert options_of(options.changed()) == options
    assert options_of({}) == Options()


def images(folder: Path, prompt: Prompt, indices: tuple[int, ...] = (0, 1)) -> Any:
    return images_of(DiffusionStage(load_bundle(folder), seed=5, load_backend=load_backend), prompt, indices)


def test_a_distilled_model_with_a_tiny_decoder_and_a_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LCM: guidance is an input, fresh noise at each step but the last; and large weights lie beside the graph."""
    monkeypatch.setattr(graphs, "EXTERNAL", 20_000)
    source = tiny.stable_diffusion(tmp_path / "source", lcm=True)
    decoder = tiny.tiny_autoencoder(tmp_path / "decoder")
    lora = tiny.lora(tmp_path / "lora.safetensors", source)
    options = Options(steps=(3,), decoder=str(decoder), lora=str(lora), lora_scale=0.8)
    bundle = export("generator", str(source), tmp_path / "fused", options)
    manifest = bundle.manifest
    assert manifest.guidance == 8.5
    assert [row.d != 0 for row in manifest.samplers[0].rows] == [True, True, False]
    assert {"denoise.onnx.data"} <= set(manifest.files)
    assert min(check.difference for check in manifest.checks if check.unit == "PSNR dB") >= PSNR
    assert options_of(manifest.source.options) == options
    # the LoRA is in the weights: without it, other images
    plain = prepare("generator", str(source), "plain", Options(steps=(3,), decoder=str(decoder)))
    with pytest.raises(BundleError, match="away from the library's"):
        list(plain.check(bundle))
    _, checks = verify(tmp_path / "fused", str(source))
    assert len(checks) == len(manifest.checks)
    with pytest.raises(UserError, match="say where it lies with --source"):
        verify(tmp_path / "fused", None)


def test_guidance_steers_away_from_the_negative_prompt(tmp_path: Path, plain: Path) -> None:
    """As the pipeline does it; without words, an SDXL steers away from zeros (test_families.py)."""
    options = Options(steps=(2,), sampler="dpm++2m", guidance=6.0, negative_prompt="a photo of a fly")
    manifest = export("generator", str(plain), tmp_path / "out", options).manifest
    assert (manifest.guidance, manifest.negative_prompt) == (6.0, "a photo of a fly")
    assert {"negative_embedding", "guidance"} <= {one.name for one in manifest.graphs["denoise"].inputs}
    assert min(check.difference for check in manifest.checks if check.unit == "PSNR dB") >= PSNR
    generator = DiffusionStage(load_bundle(tmp_path / "out"), seed=5)
    same, other = (images_of(generator, prompt, (0, 1)) for prompt in PROMPTS)
    generator.manifest = manifest.model_copy(update={"guidance": 1.0})
    unguided_same, unguided_other = (images_of(generator, prompt, (0, 1)) for prompt in PROMPTS)
    # away from itself is nowhere: only the other prompt is moved
    assert abs(same.astype(int) - unguided_same).max() <= 1
    assert (other != unguided_other).any()


def test_a_library_text_encoder_gives_what_the_graph_gives(tmp_path: Path, plain: Path) -> None:
    source = str(plain)
    for where in ("graph", "library"):
        options = Options(steps=(1,), text_encoder=where)
        export("generator", source, tmp_path / where, options)
    manifest = load_bundle(tmp_path / "library").manifest
    assert manifest.backend is not None
    assert "encode_text" not in manifest.graphs
    assert "library/text_encoder/model.safetensors" in manifest.files
    for prompt in PROMPTS:
        graph, library = (images(tmp_path / where, prompt).astype(int) for where in ("graph", "library"))
        assert abs(graph - library).max() <= 1
    with pytest.raises(UserError, match=r"needs transformers.*mothlight\[models\]"):
        DiffusionStage(load_bundle(tmp_path / "library"), seed=1).prepare(PROMPTS)


def test_flux_dev_takes_guidance_as_an_input(tmp_path: Path) -> None:
    source = tiny.flux(tmp_path / "source", guidance=True)
    prepared = prepare("generator", str(source), "flux", Options(steps=(2,), size=tiny.SIZE, guidance=2.0))
    assert prepared.manifest.guidance == 2.0
    inputs = prepared.graphs[1].make_inputs(2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        one = prepared.graphs[1].module(*inputs.values())[0]
        other = prepared.graphs[1].module(*{**inputs, "guidance": torch.tensor([7.0])}.values())[0]
    assert (one != other).any()
    assert Flux.text_parts == ("text_encoder", "text_encoder_2")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (Options(size=33), "must be a multiple of 2, not 33"),
        (Options(sampler="scm"), "SCMScheduler can't take 4 steps in this pipeline"),
        (Options(decoder="DECODER"), "not an AutoencoderTiny"),
        (Options(lora="LORA"), "does not fit StableDiffusionPipeline"),
        (Options(steps=(2000,)), "can't take 2000 steps"),
        (Options(negative_prompt="dark"), "without classifier-free guidance; add --guidance"),
    ],
)
def test_what_does_not_fit_is_one_sentence(options: Options, sentence: str, tmp_path: Path, plain: Path) -> None:
    if options.decoder:
        options = replace(options, decoder=str(plain / "vae"))
    if options.lora:
        save_file({"nonsense.lora_A.weight": torch.ones(2, 2)}, tmp_path / "lora.safetensors")
        options = replace(options, lora=str(tmp_path / "lora.safetensors"))
    with pytest.raises(UserError, match=sentence) as caught:
        export("generator", str(plain), tmp_path / "out", options)
    assert "\n" not in str(caught.value)


def test_guidance_is_refused_where_there_is_none(tmp_path: Path) -> None:
    source = tiny.flux(tmp_path / "source")
    with pytest.raises(UserError, match="takes no guidance; leave --guidance out"):
        prepare("generator", str(source), "flux", Options(guidance=3.0, size=tiny.SIZE))


def test_a_decoder_that_overflows_is_caught(tmp_path: Path) -> None:
    """As some autoencoders do in half precision: black images."""
    source = tiny.stable_diffusion(tmp_path / "source")
    vae = tiny.diffusers.AutoencoderKL.from_pretrained(source / "vae")
    with torch.no_grad():
        vae.decoder.conv_in.weight.mul_(1e30)
        vae.decoder.conv_norm_out.weight.mul_(1e30)
    vae.save_pretrained(source / "vae")
    decode = prepare("generator", str(source), "black", Options(steps=(1,))).graphs[2]
    graphs.save(graphs.to_onnx(decode), tmp_path / "decode.onnx")
    with pytest.raises(BundleError, match="one single colour; a decoder that overflows gives black images"):
        verify_graph(decode, tmp_path / "decode.onnx")


def test_what_is_not_sound_is_refused() -> None:
    good = np.random.default_rng(0).integers(0, 255, (2, 4, 4, 3), dtype=np.uint8)
    require_sound("x", good)
    with pytest.raises(BundleError, match="one single colour"):
        require_sound("x", np.concatenate([good, np.zeros_like(good)]))
    for bad in (np.nan, np.inf):
        with pytest.raises(BundleError, match="not finite"):
            require_sound("x", np.array([1.0, bad], np.float32))
