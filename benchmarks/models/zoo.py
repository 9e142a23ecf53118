"""Families of architectures for the zoo: what makes a small module of random weights, and its inputs at two sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

VOCABULARY = 1000
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Example:
    """A module, its inputs at two sizes, and the names of its dynamic dims."""

    module: nn.Module
    call: Callable[..., Any]
    inputs: Callable[[bool], Inputs]
    dynamic: Mapping[str, Mapping[int, str]]


Build = Callable[[str], Example]
ZOO: dict[str, Build] = {}


# --- weights and inputs -----------------------------------------------------------------------------------------------


def perturb(module: nn.Module, seed: int) -> nn.Module:
    """Give norms, biases and running statistics values that are neither 0 nor 1; keep the scale of the others."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() <= 1:
                parameter.add_(0.1 * noise)
            elif parameter.std() == 0 or "bias_table" in name or "relative" in name:
                parameter.add_(0.05 * noise)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.2 * torch.randn(buffer.shape, generator=generator))
            elif name.endswith("running_var"):
                buffer.mul_(0.7 + 0.6 * torch.rand(buffer.shape, generator=generator))
    return module.eval()


def generator_for(other: bool) -> torch.Generator:
    return torch.Generator().manual_seed(7 + other)


def tokens(other: bool, lengths: tuple[int, int] = (48, 23)) -> Inputs:
    """Token ids and a mask of padding on the right; [2, 48] or [3, 23]."""
    generator, (batch, length) = generator_for(other), ((3, lengths[1]) if other else (2, lengths[0]))
    ids = torch.randint(5, VOCABULARY, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:, length - 7 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


TOKEN_DIMS = {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}}


def pixels(size: int, channels: int = 3) -> Callable[[bool], Inputs]:
    def inputs(other: bool) -> Inputs:
        return {"pixel_values": torch.randn(3 if other else 2, channels, size, size, generator=generator_for(other))}

    return inputs


BATCH = {"pixel_values": {0: "batch"}}


def from_config(auto: str, kind: str, attention: str, **fields: Any) -> nn.Module:
    config = transformers.AutoConfig.for_model(kind, **fields)
    for part in (config, *vars(config).values()):
        if hasattr(part, "num_local_experts"):
            part._experts_implementation = "batched_mm"
    create = getattr(transformers, auto)
    for chosen in (attention, "eager"):  # the latter where an architecture has no other path
        config._attn_implementation = chosen
        try:
            made: nn.Module = create.from_config(config) if auto.startswith("Auto") else create(config)
        except ValueError:
            continue
        return made
    raise ValueError(f"{kind} takes neither {attention} nor eager attention")


# --- families ---------------------------------------------------------------------------------------------------------


def encoder(name: str, kind: str, **fields: Any) -> None:
    """A text encoder: ids and mask to hidden states."""

    def build(attention: str) -> Example:
        model = from_config("AutoModel", kind, attention, vocab_size=VOCABULARY, **fields)
        return Example(model, lambda m, a, b: m(input_ids=a, attention_mask=b)[0], tokens, TOKEN_DIMS)

    ZOO[name] = build


def decoder(name: str, kind: str, *, masked: bool = True, auto: str = "AutoModelForCausalLM", **fields: Any) -> None:
    """A causal language model over a whole text."""

    def call(m: nn.Module, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return m(input_ids=ids, attention_mask=mask, use_cache=False).logits

    def build(attention: str) -> Example:
        model = from_config(auto, kind, attention, vocab_size=VOCABULARY, **fields)
        if masked:
            return Example(model, call, tokens, TOKEN_DIMS)
        ids = {"input_ids": TOKEN_DIMS["input_ids"]}
        return Example(model, call, lambda other: {"input_ids": tokens(other)["input_ids"]}, ids)

    ZOO[name] = build


def cached(name: str, kind: str, kv_heads: int, size: int, layers: int = 2, **fields: Any) -> None:
    """A causal language model that continues a text whose keys and values are inputs."""

    def build(attention: str) -> Example:
        model = from_config("AutoModelForCausalLM", kind, attention, vocab_size=VOCABULARY, **fields)

        def call(m: nn.Module, ids: Tensor, mask: Tensor, positions: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
            cache = transformers.DynamicCache()
            for index in range(layers):
                cache.update(past[2 * index], past[2 * index + 1], index)
            result = m(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            )
            present = [part for layer in result.past_key_values.layers for part in (layer.keys, layer.values)]
            return (result.logits, *present)

        def inputs(other: bool) -> Inputs:
            generator, (batch, new, old) = generator_for(other), ((3, 5, 11) if other else (2, 3, 29))
            ids = torch.randint(5, VOCABULARY, (batch, new), generator=generator)
            mask = torch.ones(batch, old + new, dtype=torch.int64)
            mask[1:, :4] = 0
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -new:]
            past = {
                f"past_{index}_{part}": 0.3 * torch.randn(batch, kv_heads, old, size, generator=generator)
                for index in range(layers)
                for part in ("key", "value")
            }
            return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past}

        dims = {key: {0: "batch", 2: "past"} for key in inputs(False) if key.startswith("past")}
        text = {0: "batch", 1: "length"}
        return Example(
            model,
            call,
            inputs,
            {"input_ids": text, "attention_mask": {0: "batch", 1: "total"}, "position_ids": text, **dims},
        )

    ZOO[name] = build


def seq2seq(name: str, kind: str, **fields: Any) -> None:
    """An encoder and a decoder, with attention across."""

    def build(attention: str) -> Example:
        model = from_config("AutoModelForSeq2SeqLM", kind, attention, vocab_size=VOCABULARY, **fields)

        def call(m: nn.Module, ids: Tensor, mask: Tensor, decoded: Tensor) -> Tensor:
            return m(input_ids=ids, attention_mask=mask, decoder_input_ids=decoded, use_cache=False).logits

        def inputs(other: bool) -> Inputs:
            text = tokens(other)
            return {**text, "decoder_input_ids": tokens(other, (17, 9))["input_ids"]}

        return Example(model, call, inputs, {**TOKEN_DIMS, "decoder_input_ids": {0: "batch", 1: "decoded"}})

    ZOO[name] = build


def vision(
    name: str, auto: str, kind: str, size: int, pick: Callable[[Any], Any] = lambda r: r[0], **fields: Any
) -> None:
    """A network over images, by transformers."""

    def build(attention: str) -> Example:
        model = from_config(auto, kind, attention, **fields)
        return Example(model, lambda m, x: pick(m(x)), pixels(size, fields.get("num_channels", 3)), BATCH)

    ZOO[name] = build


def image_net(name: str, kind: str, size: int, **fields: Any) -> None:
    """A network over images, by timm: fused attention (scaled_dot_product_attention) on the dynamo routes."""

    def build(attention: str) -> Example:
        import timm
        from timm.layers import set_fused_attn

        set_fused_attn(attention == "sdpa")
        model = timm.create_model(kind, pretrained=False, num_classes=20, **fields)
        return Example(model, lambda m, x: m(x), pixels(size), BATCH)

    ZOO[name] = build


def audio(
    name: str, auto: str, kind: str, length: int, pick: Callable[[Any], Any] = lambda r: r[0], **fields: Any
) -> None:
    """A network over waves [batch, samples]."""

    def build(attention: str) -> Example:
        def inputs(other: bool) -> Inputs:
            return {"input_values": torch.randn(3 if other else 2, length, generator=generator_for(other))}

        model = from_config(auto, kind, attention, **fields)
        return Example(model, lambda m, x: pick(m(x)), inputs, {"input_values": {0: "batch"}})

    ZOO[name] = build


def network(
    name: str,
    create: Callable[[str], nn.Module],
    call: Callable[..., Any] = lambda m, *given: m(*given),
    **shapes: tuple[int, ...],
) -> None:
    """A module that takes floats of these shapes for each sample; `create` is told the implementation of attention."""

    def build(attention: str) -> Example:
        def inputs(other: bool) -> Inputs:
            generator, batch = generator_for(other), 3 if other else 2
            return {key: torch.randn(batch, *shape, generator=generator) for key, shape in shapes.items()}

        return Example(create(attention), call, inputs, {key: {0: "batch"} for key in shapes})

    ZOO[name] = build


# --- sizes ------------------------------------------------------------------------------------------------------------

BERT = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
LLAMA = {**BERT, "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0}
MHA = {**LLAMA, "num_key_value_heads": 4}
VIT = {**BERT, "image_size": 64, "patch_size": 8}
T5 = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}
BART = {
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
}
SPEECH = {
    **BERT,
    "conv_dim": [32, 32, 32],
    "conv_kernel": [10, 3, 3],
    "conv_stride": [5, 4, 4],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
