"""Florence-2 of transformers: an encoder over an image's tokens and a task, and a decoder that writes."""

from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.exporters.captioners.parts import MAX_TOKENS, CrossAttending
from mothlight.exporters.classifiers.transformers_model import load_transformers
from mothlight.exporters.images import LoadedCaptioner
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located

TASK = "<DETAILED_CAPTION>"


class EncodeImage(nn.Module):
    """pixels → memory (B, N, D) float32: the encoder's last hidden state over the image and the task."""

    prompt: Tensor

    def __init__(self, model: Any, prompt: list[int]) -> None:
        super().__init__()
        self.model = model.model
        self.register_buffer("prompt", torch.tensor([prompt]))

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        seen = self.model.multi_modal_projector(self.model.vision_tower(pixels).last_hidden_state)
        words = self.model.get_input_embeddings()(self.prompt).expand(pixels.shape[0], -1, -1)
        encoder = self.model.language_model.encoder
        return encoder(inputs_embeds=torch.cat([seen, words], dim=1)).last_hidden_state


class Decoder(nn.Module):
    """The decoder and its head."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.model.language_model.decoder
        self.head = model.lm_head

    def forward(self, *, input_ids: Tensor, encoder_hidden_states: Tensor, cache: Any, use_cache: bool) -> Any:
        """As a decoder with a head of transformers is called."""
        out = self.decoder(
            input_ids=input_ids, encoder_hidden_states=encoder_hidden_states, cache=cache, use_cache=use_cache
        )
        return SimpleNamespace(logits=self.head(out.last_hidden_state))


def load_captioner(found: Located) -> LoadedCaptioner:
    """A folder that transformers saved a `Florence2ForConditionalGeneration` and its processor to.

    Raises:
        UserError: transformers can't load it, or its processor knows no such task.
    """
    model, processor = load_transformers(found, "Florence2ForConditionalGeneration", "AutoProcessor")
    preprocess, transform = of_processor(found.origin, processor.image_processor)
    asked = processor.task_prompts_without_inputs.get(TASK)
    if asked is None:
        raise UserError(f"{found.given}: its processor knows no task {TASK}.")
    prompt = processor.tokenizer(asked).input_ids
    text = model.config.text_config
    start = (int(text.decoder_start_token_id), int(text.bos_token_id))

    def generate(pixels: Tensor, count: int) -> Tensor:
        images = model.get_image_features(pixel_values=pixels).pooler_output.shape[1]
        ids = torch.tensor([[model.config.image_token_id] * images + prompt]).expand(pixels.shape[0], -1)
        first = torch.tensor([start]).expand(pixels.shape[0], -1)
        made = model.generate(
            input_ids=ids,
            pixel_values=pixels,
            decoder_input_ids=first,
            max_new_tokens=count,
            do_sample=False,
            num_beams=1,
            forced_bos_token_id=None,
            forced_eos_token_id=None,
            no_repeat_ngram_size=0,
        )
        return made[:, len(start) :]

    return LoadedCaptioner(
        encode_image=EncodeImage(model, prompt),
        decoder=CrossAttending(Decoder(model)),
        preprocess=preprocess,
        transform=transform,
        tokenizer=processor.tokenizer,
        start_ids=start,
        end_id=int(text.eos_token_id),
        max_tokens=min(MAX_TOKENS, int(text.max_position_embeddings)),
        generate=generate,
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
    )
