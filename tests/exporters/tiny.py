"""Small models of the true architecture classes, random weights, saved by the libraries themselves.

They stand for the models that people use: the same classes, the same files, the same code paths, at a size at which
all of them are exported in a test.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from mothlight.engine.models.sampler import SamplerTable, sample
from mothlight.engine.vocabulary import imagenet
from mothlight.exporters.tokenizers import SENTENCES

diffusers: Any = import_module("diffusers")
transformers: Any = import_module("transformers")
"""Their types leave out what is loaded lazily."""
WORDS = [*SENTENCES, "goldfish car apple cat dog on grass at night in snow, a photo of an object. it is raining."]
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SIZE = 32
"""Pixels of an image."""


def seeded(make: Callable[[], Any]) -> Any:
    """A module whose random weights are the same every time, large enough to make images that are no grey plane."""
    torch.manual_seed(7)
    return make().eval()


def byte_pairs(specials: list[str], length: int, start: str = "", end: str = "") -> Tokenizer:
    """A small byte-level tokenizer that was trained on our own sentences."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=length, special_tokens=specials, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(WORDS, trainer)
    if start or end:
        around = [(one, tokenizer.token_to_id(one)) for one in (start, end) if one]
        template = " ".join(one for one in (start, "$A", end) if one)
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=around)
    return tokenizer


def clip_tokenizer(length: int = 16, pad: str = "<|endoftext|>") -> Any:
    """As a CLIP text encoder has: start and end, padded with the end or with `!`."""
    tokenizer = byte_pairs(["<|startoftext|>", "<|endoftext|>"], 400, "<|startoftext|>", "<|endoftext|>")
    tokenizer.normalizer = normalizers.Lowercase()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        pad_token=pad,
        model_max_length=length,
    )


def t5_tokenizer() -> Any:
    """As a T5 has: a unigram model, an end and a pad token."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(WORDS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", model_max_length=512
    )


def chat_tokenizer() -> Any:
    """As a Qwen or a Gemma has: byte pairs, a pad token, a chat template."""
    tokenizer = byte_pairs(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bos>"], 400)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token="<bos>"
    )
    fast.chat_template = CHAT
    return fast


def sentence_pieces(file: Path, kind: str = "unigram") -> Path:
    """A SentencePiece model, trained on our own sentences."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*WORDS, *(word.name for word in imagenet())]),
        model_prefix=str(file.with_suffix("")),
        vocab_size=400,
        model_type=kind,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return file


def siglip_tokenizer(folder: Path) -> Any:
    """As SigLIP has: pieces, an end that also pads, no punctuation, and no fast tokenizer."""
    return transformers.SiglipTokenizer(str(sentence_pieces(folder / "spiece.model")), model_max_length=16)


def clip_text(tokenizer: Any, width: int, *, projected: bool) -> Any:
    """A CLIP text encoder."""
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return seeded(lambda: kind(config))


def t5_text(tokenizer: Any, width: int) -> Any:
    """A T5 encoder."""
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=width, d_ff=2 * width, d_kv=8, num_layers=2, num_heads=2
    )
    return seeded(lambda: transformers.T5EncoderModel(config))


def vae(channels: int = 4, **more: Any) -> Any:
    """A variational autoencoder: one pixel of latent to two of the image."""
    return seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=channels,
            norm_num_groups=4,
            sample_size=SIZE,
            **more,
        )
    )


def unet(cross: int, **more: Any) -> Any:
    """A UNet with cross-attention."""
    return seeded(
        lambda: diffusers.UNet2DConditionModel(
            sample_size=SIZE // 2,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=cross,
            norm_num_groups=4,
            attention_head_dim=8,
            **more,
        )
    )


def stable_diffusion(folder: Path, *, lcm: bool = False, prediction: str = "epsilon") -> Path:
    """Stable Diffusion; with `lcm` a UNet that takes the guidance scale."""
    tokenizer = clip_tokenizer()
    parts: dict[str, Any] = {
        "vae": vae(),
        "text_encoder": clip_text(tokenizer, 16, projected=False),
        "tokenizer": tokenizer,
        "unet": unet(16, time_cond_proj_dim=8 if lcm else None),
        "safety_checker": None,
        "feature_extractor": None,
    }
    if lcm:
        scheduler = diffusers.LCMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
        diffusers.LatentConsistencyModelPipeline(
            **parts, scheduler=scheduler, requires_safety_checker=False
        ).save_pretrained(folder)
        return folder
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=prediction,
        timestep_spacing="trailing",
    )
    diffusers.StableDiffusionPipeline(**parts, scheduler=scheduler, requires_safety_checker=False).save_pretrained(
        folder
    )
    return folder


def stable_diffusion_xl(folder: Path) -> Path:
    """SDXL."""
    first, second = clip_tokenizer(), clip_tokenizer(pad="!")
    scheduler = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    diffusers.StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025),
        text_encoder=clip_text(first, 16, projected=False),
        text_encoder_2=clip_text(second, 24, projected=True),
        tokenizer=first,
        tokenizer_2=second,
        unet=unet(
            40,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
            use_linear_projection=True,
        ),
        scheduler=scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def stable_diffusion_3(folder: Path) -> Path:
    """Stable Diffusion 3.5."""
    first, second, third = clip_tokenizer(), clip_tokenizer(pad="!"), t5_tokenizer()
    transformer = seeded(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=SIZE // 2,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=48,
            caption_projection_dim=32,
            pooled_projection_dim=40,
            pos_embed_max_size=24,
            qk_norm="rms_norm",
        )
    )
    diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(first, 16, projected=True),
        tokenizer=first,
        text_encoder_2=clip_text(second, 24, projected=True),
        tokenizer_2=second,
        text_encoder_3=t5_text(third, 48),
        tokenizer_3=third,
    ).save_pretrained(folder)
    return folder


def flux(folder: Path, *, guidance: bool = False) -> Path:
    """FLUX.1; with `guidance` as the dev model has it."""
    first, second = clip_tokenizer(), t5_tokenizer()
    transformer = seeded(
        lambda: diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            guidance_embeds=guidance,
            axes_dims_rope=(4, 6, 6),
        )
    )
    diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0 if guidance else 1.0, use_dynamic_shifting=guidance
        ),
        vae=vae(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=clip_text(first, 16, projected=False),
        tokenizer=first,
        text_encoder_2=t5_text(second, 32),
        tokenizer_2=second,
        transformer=transformer,
    ).save_pretrained(folder)
    return folder


def sana_sprint(folder: Path) -> Path:
    """SANA-Sprint."""
    tokenizer = chat_tokenizer()
    config = transformers.Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=tokenizer.pad_token_id,
    )
    transformer = seeded(
        lambda: diffusers.SanaTransformer2DModel(
            sample_size=SIZE // 4,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=16,
            qk_norm="rms_norm_across_heads",
            guidance_embeds=True,
        )
    )
    autoencoder = seeded(
        lambda: diffusers.AutoencoderDC(
            latent_channels=4,
            encoder_block_types=("ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 16, 16),
            decoder_block_out_channels=(8, 16, 16),
            encoder_layers_per_block=(1, 1, 1),
            decoder_layers_per_block=(1, 1, 1),
            encoder_qkv_multiscales=((), (), (5,)),
            decoder_qkv_multiscales=((), (), (5,)),
            attention_head_dim=8,
            scaling_factor=0.41407,
        )
    )
    diffusers.SanaSprintPipeline(
        tokenizer=tokenizer,
        text_encoder=seeded(lambda: transformers.Gemma2Model(config)),
        vae=autoencoder,
        transformer=transformer,
        scheduler=diffusers.SCMScheduler(),
    ).save_pretrained(folder)
    return folder


def flux_2_klein(folder: Path) -> Path:
    """FLUX.2 [klein]."""
    tokenizer = chat_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    transformer = seeded(
        lambda: diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        )
    )
    autoencoder = seeded(
        lambda: diffusers.AutoencoderKLFlux2(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=SIZE,
        )
    )
    autoencoder.bn.running_mean.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder,
        text_encoder=seeded(lambda: transformers.Qwen3ForCausalLM(config)),
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=True,
    ).save_pretrained(folder)
    return folder


LABELS = ("fly", "butterfly", "goldfish")
"""Of tinyworld's, so that a small classifier can be audited in it."""


def timm_classifier(folder: Path) -> Path:
    """A ViT that timm saved, with label names."""
    from timm.models import save_for_hf

    model = seeded(
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=len(LABELS), img_size=32, depth=2, embed_dim=24)
    )
    model.pretrained_cfg |= {"input_size": (3, 32, 32), "crop_pct": 0.9}
    arguments = {"img_size": 32, "depth": 2, "embed_dim": 24}
    save_for_hf(
        model,
        str(folder),
        {"pretrained_cfg": model.pretrained_cfg, "label_names": list(LABELS)},
        arguments,
        safe_serialization=True,
    )
    return folder


def timm_of_imagenet(folder: Path, architecture: str) -> Path:
    """A small model of timm with ImageNet's classes, saved as the hub has them: without names."""
    from timm.models import save_for_hf

    model = seeded(lambda: timm.create_model(architecture))
    save_for_hf(model, str(folder), {"pretrained_cfg": model.pretrained_cfg}, safe_serialization=True)
    return folder


def torchvision_classifier(folder: Path) -> Path:
    """A safetensors file of a MobileNet of torchvision."""
    from safetensors.torch import save_file
    from torchvision.models import mobilenet_v3_small

    folder.mkdir()
    model = seeded(lambda: mobilenet_v3_small(num_classes=len(LABELS)))
    save_file(model.state_dict(), folder / "mobilenet.safetensors")
    return folder / "mobilenet.safetensors"


def transformers_classifier(folder: Path, config: str = "ViTConfig", model: str = "ViTForImageClassification") -> Path:
    """A ViT of transformers, or another of its shape, and its processor."""
    told = getattr(transformers, config)(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        id2label=dict(enumerate(LABELS)),
        label2id={label: place for place, label in enumerate(LABELS)},
    )
    seeded(lambda: getattr(transformers, model)(told)).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def open_clip_embedder(folder: Path) -> Path:
    """A CLIP as open_clip saves it."""
    import json

    import open_clip
    from safetensors.torch import save_file

    tokenizer = clip_tokenizer()
    model_config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": len(tokenizer),
            "width": 32,
            "heads": 2,
            "layers": 2,
            "hf_tokenizer_name": "tokenizer",
        },
    }
    model = seeded(lambda: open_clip.CLIP(**model_config))
    folder.mkdir()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28], "interpolation": "bicubic"}
    config = {"model_cfg": model_config, "preprocess_cfg": {**preprocess, "resize_mode": "shortest"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    return folder


def siglip(folder: Path, *, sure: bool = False) -> Path:
    """A SigLIP of transformers, its tokenizer as the hub has it: a SentencePiece model and nothing else.

    With `sure` it takes every image for what it was asked about.
    """
    folder.mkdir()
    tokenizer = siglip_tokenizer(folder)
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config={
            **text,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 16,
            "projection_size": 16,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**text, "image_size": 32, "patch_size": 8},
    )
    model = seeded(lambda: transformers.SiglipModel(config))
    if sure:
        torch.nn.init.constant_(model.logit_bias, 10.0)
    model.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def open_clip_siglip(folder: Path) -> Path:
    """A SigLIP as open_clip saves it: a bias, texts without punctuation, the last token pools."""
    import json

    import open_clip
    from safetensors.torch import save_file

    folder.mkdir()
    tokenizer = t5_tokenizer()
    model_config = {
        "embed_dim": 16,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": "tokenizer",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 32,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
        },
    }
    arguments = {key: value for key, value in model_config.items() if key != "custom_text"}
    model = seeded(lambda: open_clip.CustomTextCLIP(**arguments))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    return folder


def dino(folder: Path) -> Path:
    """A DINOv2 of transformers."""
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    seeded(lambda: transformers.Dinov2Model(config)).save_pretrained(folder)
    transformers.BitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, do_center_crop=True
    ).save_pretrained(folder)
    return folder


def timm_embedder(folder: Path) -> Path:
    """A model of timm; its classifier is left off."""
    return timm_classifier(folder)


def word_tokenizer() -> Any:
    """As a BERT has."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"]
    tokenizer.train_from_iterator(WORDS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=specials))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def blip(folder: Path) -> Path:
    """BLIP."""
    tokenizer = word_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "encoder_hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "bos_token_id": 4,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "pad_token_id": 0,
        "is_decoder": True,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = transformers.BlipConfig(text_config=text, vision_config=vision)
    seeded(lambda: transformers.BlipForConditionalGeneration(config)).save_pretrained(folder)
    processor = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.BlipProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def git(folder: Path) -> Path:
    """GIT."""
    tokenizer = word_tokenizer()
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = transformers.GitConfig(
        vision_config=vision,
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    seeded(lambda: transformers.GitForCausalLM(config)).save_pretrained(folder)
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.GitProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def florence_2(folder: Path) -> Path:
    """Florence-2."""
    tokenizer = byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<image>"], 400, "<s>", "</s>")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
    text = transformers.BartConfig(
        vocab_size=len(fast),
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=128,
    )
    vision = {
        "embed_dim": [8, 16],
        "num_heads": [1, 2],
        "num_groups": [1, 2],
        "depths": [1, 1],
        "patch_size": [7, 3],
        "patch_stride": [4, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "window_size": 4,
        "projection_dim": 16,
        "max_position_embeddings": 20,
    }
    config = transformers.Florence2Config(text_config=text, vision_config=vision, image_token_id=4)
    seeded(lambda: transformers.Florence2ForConditionalGeneration(config)).save_pretrained(folder)
    processor = transformers.CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False, resample=3)
    transformers.Florence2Processor(processor, fast).save_pretrained(folder)
    return folder


def qwen_vl(folder: Path) -> Path:
    """Qwen2.5-VL and its processor."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    tokenizer = byte_pairs([*specials, "<|video_pad|>"], 400)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )
    template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
        "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
        "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(fast),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 16,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    seeded(lambda: transformers.Qwen2_5_VLForConditionalGeneration(config)).save_pretrained(folder)
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 4),
        fast,
        transformers.Qwen2VLVideoProcessor(),
        chat_template=template,
    )
    processor.save_pretrained(folder)
    return folder


def tiny_autoencoder(folder: Path) -> Path:
    """A TAESD: one pixel of latent to two of the image."""
    seeded(
        lambda: diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
            latent_channels=4,
        )
    ).save_pretrained(folder)
    return folder


def lora(file: Path, pipeline: Path) -> Path:
    """A LoRA of rank 2 for each attention of a pipeline's UNet, as peft names its weights."""
    from safetensors.torch import save_file

    model = diffusers.UNet2DConditionModel.from_pretrained(pipeline / "unet")
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, module in model.named_modules():
        if name.endswith(("to_q", "to_v")):
            rows, columns = module.weight.shape
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(2, columns, generator=generator)
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(rows, 2, generator=generator)
    save_file(tensors, file)
    return file


def convnext(folder: Path) -> Path:
    """A ConvNeXt of transformers, whose processor resizes to more and crops."""
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, id2label=dict(enumerate(LABELS)), image_size=32
    )
    seeded(lambda: transformers.ConvNextForImageClassification(config)).save_pretrained(folder)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """A CLIP of transformers."""
    tokenizer = clip_tokenizer()
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={
            **text,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**text, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    seeded(lambda: transformers.CLIPModel(config)).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    return folder


def dino_with_registers(folder: Path) -> Path:
    """A DINOv2 with registers."""
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, num_register_tokens=2
    )
    seeded(lambda: transformers.Dinov2WithRegistersModel(config)).save_pretrained(folder)
    transformers.BitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, do_center_crop=True
    ).save_pretrained(folder)
    return folder


def dino_3(folder: Path) -> Path:
    """A DINOv3."""
    config = transformers.DINOv3ViTConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        num_register_tokens=2,
    )
    seeded(lambda: transformers.DINOv3ViTModel(config)).save_pretrained(folder)
    transformers.DINOv3ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def vit_gpt_2(folder: Path) -> Path:
    """A ViT and a GPT-2 of another width."""
    tokenizer = byte_pairs(["<|endoftext|>"], 400)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    encoder = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    decoder = transformers.GPT2Config(
        vocab_size=len(fast),
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=12,
        bos_token_id=0,
        eos_token_id=0,
        is_decoder=True,
        add_cross_attention=True,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = 0, 0, 0
    model = seeded(lambda: transformers.VisionEncoderDecoderModel(config))
    model.generation_config.decoder_start_token_id = model.generation_config.eos_token_id = 0
    model.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def sampled(table: SamplerTable, noise_of_step: Callable[[int], Any]) -> Any:
    """The whole loop of a sampler in float32, with tanh in the model's place."""

    def denoise(x: Any, x0_prev: Any, z: Any, step: int) -> tuple[Any, Any]:
        row = table.rows[step - 1]
        s, p, q, a, b, c, d = row.coefficients()
        x0 = p * x + q * np.tanh(s * x + np.float32(row.timestep) / 500)
        return a * x + b * x0 + c * x0_prev + d * z, x0

    def draw(step: int, scale: float) -> Any:
        return noise_of_step(step) * np.float32(scale)

    return sample(denoise, table, draw, np.zeros_like(noise_of_step(0)))
