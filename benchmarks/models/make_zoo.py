"""Small models of many architectures, as torch's two exporters leave them; random weights, norms and biases perturbed.

    python benchmarks/models/make_zoo.py DIRECTORY [--only NAME …]      # needs torch, transformers, timm and onnxscript

Writes `NAME__ROUTE.onnx` with two sets of inputs each (`.inputs.npz`; `.inputs2.npz` of other sizes where dims are
dynamic). Routes: `dynamo` (attention by scaled_dot_product_attention), `static` (the same, sizes fixed), `ts` (the
legacy exporter, attention written out). A model that an exporter cannot convert is reported and left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

TIMEOUT = 240  # seconds for all routes of one architecture
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


def _generator(other: bool) -> torch.Generator:
    return torch.Generator().manual_seed(7 + other)


def _tokens(other: bool, lengths: tuple[int, int] = (48, 23)) -> Inputs:
    """Token ids and a mask of padding on the right; [2, 48] or [3, 23]."""
    generator, (batch, length) = _generator(other), ((3, lengths[1]) if other else (2, lengths[0]))
    ids = torch.randint(5, VOCABULARY, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:, length - 7 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


_TOKEN_DIMS = {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}}


def _pixels(size: int, channels: int = 3) -> Callable[[bool], Inputs]:
    def inputs(other: bool) -> Inputs:
        return {"pixel_values": torch.randn(3 if other else 2, channels, size, size, generator=_generator(other))}

    return inputs


_BATCH = {"pixel_values": {0: "batch"}}


def _from_config(auto: str, kind: str, attention: str, **fields: Any) -> nn.Module:
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
        model = _from_config("AutoModel", kind, attention, vocab_size=VOCABULARY, **fields)
        return Example(model, lambda m, a, b: m(input_ids=a, attention_mask=b)[0], _tokens, _TOKEN_DIMS)

    ZOO[name] = build


def decoder(name: str, kind: str, *, masked: bool = True, auto: str = "AutoModelForCausalLM", **fields: Any) -> None:
    """A causal language model over a whole text."""

    def call(m: nn.Module, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return m(input_ids=ids, attention_mask=mask, use_cache=False).logits

    def build(attention: str) -> Example:
        model = _from_config(auto, kind, attention, vocab_size=VOCABULARY, **fields)
        if masked:
            return Example(model, call, _tokens, _TOKEN_DIMS)
        ids = {"input_ids": _TOKEN_DIMS["input_ids"]}
        return Example(model, call, lambda other: {"input_ids": _tokens(other)["input_ids"]}, ids)

    ZOO[name] = build


def cached(name: str, kind: str, kv_heads: int, size: int, layers: int = 2, **fields: Any) -> None:
    """A causal language model that continues a text whose keys and values are inputs."""

    def build(attention: str) -> Example:
        model = _from_config("AutoModelForCausalLM", kind, attention, vocab_size=VOCABULARY, **fields)

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
            generator, (batch, new, old) = _generator(other), ((3, 5, 11) if other else (2, 3, 29))
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
        model = _from_config("AutoModelForSeq2SeqLM", kind, attention, vocab_size=VOCABULARY, **fields)

        def call(m: nn.Module, ids: Tensor, mask: Tensor, decoded: Tensor) -> Tensor:
            return m(input_ids=ids, attention_mask=mask, decoder_input_ids=decoded, use_cache=False).logits

        def inputs(other: bool) -> Inputs:
            text = _tokens(other)
            return {**text, "decoder_input_ids": _tokens(other, (17, 9))["input_ids"]}

        return Example(model, call, inputs, {**_TOKEN_DIMS, "decoder_input_ids": {0: "batch", 1: "decoded"}})

    ZOO[name] = build


def vision(
    name: str, auto: str, kind: str, size: int, pick: Callable[[Any], Any] = lambda r: r[0], **fields: Any
) -> None:
    """A network over images, by transformers."""

    def build(attention: str) -> Example:
        model = _from_config(auto, kind, attention, **fields)
        return Example(model, lambda m, x: pick(m(x)), _pixels(size, fields.get("num_channels", 3)), _BATCH)

    ZOO[name] = build


def image_net(name: str, kind: str, size: int, **fields: Any) -> None:
    """A network over images, by timm: fused attention (scaled_dot_product_attention) on the dynamo routes."""

    def build(attention: str) -> Example:
        import timm
        from timm.layers import set_fused_attn

        set_fused_attn(attention == "sdpa")
        model = timm.create_model(kind, pretrained=False, num_classes=20, **fields)
        return Example(model, lambda m, x: m(x), _pixels(size), _BATCH)

    ZOO[name] = build


def audio(
    name: str, auto: str, kind: str, length: int, pick: Callable[[Any], Any] = lambda r: r[0], **fields: Any
) -> None:
    """A network over waves [batch, samples]."""

    def build(attention: str) -> Example:
        def inputs(other: bool) -> Inputs:
            return {"input_values": torch.randn(3 if other else 2, length, generator=_generator(other))}

        model = _from_config(auto, kind, attention, **fields)
        return Example(model, lambda m, x: pick(m(x)), inputs, {"input_values": {0: "batch"}})

    ZOO[name] = build


# --- the architectures ------------------------------------------------------------------------------------------------

_BERT = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
_LLAMA = {**_BERT, "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0}
_MHA = {**_LLAMA, "num_key_value_heads": 4}
_VIT = {**_BERT, "image_size": 64, "patch_size": 8}

for _name in ("electra", "mpnet", "layoutlm", "roberta", "deberta", "nystromformer", "roformer", "squeezebert"):
    encoder(_name, _name, **_BERT)
encoder("esm", "esm", **_BERT, pad_token_id=0, mask_token_id=4)
encoder("deberta_v2", "deberta-v2", **_BERT, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=16)
encoder("distilbert", "distilbert", dim=128, n_layers=2, n_heads=4, hidden_dim=256)
encoder("xlnet", "xlnet", d_model=128, n_layer=2, n_head=4, d_inner=256)
encoder("xlm", "xlm", emb_dim=128, n_layers=2, n_heads=4)
encoder("modernbert", "modernbert", **_BERT, pad_token_id=0, local_attention=16)
encoder("mobilebert", "mobilebert", **_BERT, embedding_size=64, intra_bottleneck_size=64)

decoder("gpt_neox", "gpt_neox", **_BERT, rotary_pct=0.25, max_position_embeddings=256)
decoder("gptj", "gptj", n_embd=128, n_layer=2, n_head=4, rotary_dim=16, n_positions=256)
decoder("codegen", "codegen", n_embd=128, n_layer=2, n_head=4, rotary_dim=16, n_positions=256)
decoder(
    "gpt_neo",
    "gpt_neo",
    hidden_size=128,
    num_layers=2,
    num_heads=4,
    attention_types=[[["global", "local"], 1]],
    window_size=8,
)
decoder("gpt_bigcode", "gpt_bigcode", n_embd=128, n_layer=2, n_head=4, multi_query=True)
decoder("opt", "opt", hidden_size=128, num_hidden_layers=2, num_attention_heads=4, ffn_dim=256, word_embed_proj_dim=128)
decoder("falcon", "falcon", hidden_size=128, num_hidden_layers=2, num_attention_heads=4, multi_query=True)
decoder(
    "falcon_alibi", "falcon", hidden_size=128, num_hidden_layers=2, num_attention_heads=4, alibi=True, multi_query=False
)
decoder("mpt", "mpt", d_model=128, n_layers=2, n_heads=4, max_seq_len=64)
decoder("bloom", "bloom", hidden_size=128, n_layer=2, n_head=4)
decoder("phi", "phi", **_MHA, partial_rotary_factor=0.5)
for _name in ("stablelm", "olmo2", "mistral", "granite", "starcoder2", "cohere", "cohere2", "qwen2", "smollm3", "glm"):
    decoder(_name, _name, **_LLAMA, **({"sliding_window": 16} if _name in ("mistral", "cohere2") else {}))
for _name in ("nemotron", "persimmon", "olmo", "exaone4", "ernie4_5", "seed_oss"):
    decoder(_name, _name, **_LLAMA)
decoder("helium", "helium", **_LLAMA, head_dim=32)
decoder("qwen3", "qwen3", **_LLAMA, head_dim=32)
decoder("gemma", "gemma", **_LLAMA, head_dim=32)
decoder("gemma2", "gemma2", **_LLAMA, head_dim=32, sliding_window=16)
decoder("gemma3", "gemma3_text", **_LLAMA, head_dim=32, sliding_window=16)
decoder("mixtral", "mixtral", **_LLAMA, num_local_experts=4)
decoder(
    "deepseek_v2",
    "deepseek_v2",
    **_MHA,
    kv_lora_rank=32,
    q_lora_rank=48,
    qk_rope_head_dim=16,
    qk_nope_head_dim=32,
    v_head_dim=32,
    first_k_dense_replace=2,
)
decoder("mamba", "mamba", masked=False, hidden_size=64, num_hidden_layers=2, state_size=8)
decoder("rwkv", "rwkv", masked=False, hidden_size=64, num_hidden_layers=2, attention_hidden_size=64)

cached("gpt_neox_kv", "gpt_neox", 4, 32, **_BERT, rotary_pct=0.25, max_position_embeddings=256)
cached("qwen3_kv", "qwen3", 2, 32, **_LLAMA, head_dim=32)
cached("gemma2_kv", "gemma2", 2, 32, **_LLAMA, head_dim=32, sliding_window=512)
cached("falcon_kv", "falcon", 1, 32, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, multi_query=True)
cached("bloom_kv", "bloom", 4, 32, hidden_size=128, n_layer=2, n_head=4)
cached(
    "opt_kv",
    "opt",
    4,
    32,
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    ffn_dim=256,
    word_embed_proj_dim=128,
)
cached("mistral_kv", "mistral", 2, 32, **_LLAMA, sliding_window=512)
cached("phi_kv", "phi", 4, 32, **_MHA, partial_rotary_factor=0.5)

_T5 = {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4}
seq2seq("t5", "t5", **_T5)
seq2seq("mt5", "mt5", **_T5)
_BART = {
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
}
for _name in ("pegasus", "m2m_100", "bart", "marian"):
    seq2seq(_name, _name, **_BART, max_position_embeddings=128, pad_token_id=1, decoder_start_token_id=2)

for _name, _kind, _size, _fields in (
    ("timm_vit", "vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 3}),
    ("timm_vit_reg", "vit_small_patch14_reg4_dinov2", 56, {"img_size": 56, "depth": 2}),
    ("timm_eva02", "eva02_tiny_patch14_224", 56, {"img_size": 56, "depth": 3}),
    ("timm_beit", "beit_base_patch16_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 128, "num_heads": 4}),
    ("timm_deit3", "deit3_small_patch16_224", 64, {"img_size": 64, "depth": 2}),
    ("timm_cait", "cait_xxs24_224", 64, {"img_size": 64, "depth": 2}),
    (
        "timm_swinv2",
        "swinv2_tiny_window8_256",
        64,
        {"img_size": 64, "depths": (2, 2), "embed_dim": 48, "num_heads": (2, 4), "window_size": 4},
    ),
    (
        "timm_swin",
        "swin_tiny_patch4_window7_224",
        56,
        {"img_size": 56, "depths": (2, 2), "embed_dim": 48, "num_heads": (2, 4)},
    ),
    ("timm_maxvit", "maxvit_rmlp_pico_rw_256", 128, {"img_size": 128}),
    ("timm_pvt", "pvt_v2_b0", 64, {}),
    ("timm_coat", "coat_lite_tiny", 64, {"img_size": 64}),
    ("timm_convnextv2", "convnextv2_atto", 64, {}),
    ("timm_xcit", "xcit_nano_12_p16_224", 64, {"depth": 2, "img_size": 64}),
    ("timm_levit", "levit_128s", 224, {}),
    ("timm_davit", "davit_tiny", 64, {}),
    ("timm_twins", "twins_svt_small", 64, {"img_size": 64, "depths": (1, 1, 2, 1)}),
    ("timm_crossvit", "crossvit_tiny_240", 240, {}),
    ("timm_edgenext", "edgenext_xx_small", 64, {}),
    ("timm_mvitv2", "mvitv2_tiny", 64, {"img_size": 64, "depths": (1, 1, 2, 1)}),
    ("timm_mobilevitv2", "mobilevitv2_050", 64, {}),
    ("timm_gcvit", "gcvit_xxtiny", 224, {}),
    ("timm_visformer", "visformer_tiny", 64, {"img_size": 64}),
    ("timm_hiera", "hiera_tiny_224", 64, {"img_size": (64, 64)}),
    ("timm_mixer", "mixer_s16_224", 64, {"img_size": 64, "num_blocks": 2}),
    ("timm_volo", "volo_d1_224", 64, {"img_size": 64, "layers": (1, 1, 1, 1)}),
):
    image_net(_name, _kind, _size, **_fields)

vision("beit", "AutoModelForImageClassification", "beit", 64, **_VIT, use_relative_position_bias=True, num_labels=20)
vision("dinov2", "AutoModel", "dinov2", 64, **_VIT)
vision("swinv2", "AutoModel", "swinv2", 64, image_size=64, embed_dim=48, depths=[2, 2], num_heads=[2, 4], window_size=4)
vision(
    "segformer",
    "AutoModelForSemanticSegmentation",
    "segformer",
    64,
    hidden_sizes=[32, 64, 96, 128],
    depths=[1, 1, 1, 1],
    num_attention_heads=[1, 2, 3, 4],
    decoder_hidden_size=64,
)
vision("pvt", "AutoModel", "pvt", 64, image_size=64)
vision("clip_vision", "CLIPVisionModel", "clip_vision_model", 64, **_VIT)
vision("siglip_vision", "SiglipVisionModel", "siglip_vision_model", 64, **_VIT)
vision("blip_vision", "BlipVisionModel", "blip_vision_model", 64, **_VIT)
vision("owlvit_vision", "OwlViTVisionModel", "owlvit_vision_model", 64, **_VIT)
vision(
    "sam_vision",
    "SamVisionModel",
    "sam_vision_model",
    64,
    **_VIT,
    mlp_dim=256,
    window_size=4,
    global_attn_indexes=[1],
    output_channels=32,
)
vision(
    "dpt",
    "AutoModelForDepthEstimation",
    "dpt",
    64,
    **{**_VIT, "num_hidden_layers": 4},
    backbone_out_indices=[0, 1, 2, 3],
    neck_hidden_sizes=[16, 32, 64, 64],
    fusion_hidden_size=32,
)
vision(
    "maskformer_swin",
    "AutoModel",
    "swin",
    64,
    image_size=64,
    embed_dim=48,
    depths=[2, 2],
    num_heads=[2, 4],
    window_size=4,
)
encoder("clip_text", "clip_text_model", **_BERT, max_position_embeddings=64)
encoder("siglip_text", "siglip_text_model", **_BERT, max_position_embeddings=64)

_SPEECH = {
    **_BERT,
    "conv_dim": [32, 32, 32],
    "conv_kernel": [10, 3, 3],
    "conv_stride": [5, 4, 4],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
audio("wav2vec2", "AutoModel", "wav2vec2", 4000, **_SPEECH)
audio("hubert", "AutoModel", "hubert", 4000, **_SPEECH)
audio("wavlm", "AutoModel", "wavlm", 4000, **_SPEECH)
audio("sew", "AutoModel", "sew", 4000, **_SPEECH)
audio("wav2vec2_conformer", "AutoModel", "wav2vec2-conformer", 4000, **_SPEECH, position_embeddings_type="relative")
audio("wav2vec2_rotary", "AutoModel", "wav2vec2-conformer", 4000, **_SPEECH, position_embeddings_type="rotary")


def _whisper(attention: str) -> Example:
    fields = {**_BART, "num_mel_bins": 40, "max_source_positions": 60, "max_target_positions": 64, "pad_token_id": 0}
    model = _from_config("AutoModelForSpeechSeq2Seq", "whisper", attention, vocab_size=VOCABULARY, **fields)

    def inputs(other: bool) -> Inputs:
        ids = _tokens(other, (17, 9))["input_ids"]
        return {"features": torch.randn(len(ids), 40, 120, generator=_generator(other)), "decoder_input_ids": ids}

    def call(m: nn.Module, x: Tensor, ids: Tensor) -> Tensor:
        return m(input_features=x, decoder_input_ids=ids, use_cache=False).logits

    return Example(model, call, inputs, {"features": {0: "batch"}, "decoder_input_ids": {0: "batch", 1: "decoded"}})


ZOO["whisper"] = _whisper


def _sam_decoder(attention: str) -> Example:
    config = transformers.SamConfig()
    config.vision_config.image_size = 128
    for field, value in {
        "hidden_size": 64,
        "mlp_dim": 128,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": 32,
    }.items():
        setattr(config.mask_decoder_config, field, value)
    config._attn_implementation = config.mask_decoder_config._attn_implementation = attention
    from transformers.models.sam.modeling_sam import SamMaskDecoder

    model = SamMaskDecoder(config.mask_decoder_config)

    def inputs(other: bool) -> Inputs:
        generator, batch = _generator(other), 3 if other else 2
        shapes = {
            "image": (batch, 64, 8, 8),
            "positions": (batch, 64, 8, 8),
            "sparse": (batch, 1, 3, 64),
            "dense": (batch, 64, 8, 8),
        }
        return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}

    return Example(
        model,
        lambda m, a, b, c, d: m(a, b, c, d, multimask_output=True)[:2],
        inputs,
        {name: {0: "batch"} for name in inputs(False)},
    )


ZOO["sam_decoder"] = _sam_decoder


def _torch_decoder(_attention: str) -> Example:
    """torch's own layers; without autograd they take the fused path, which the exporters write out."""
    layer = nn.TransformerDecoderLayer(128, 4, 256, batch_first=True, dropout=0.1)
    model = nn.TransformerDecoder(layer, 2)

    def inputs(other: bool) -> Inputs:
        generator, (batch, length) = _generator(other), ((3, 11) if other else (2, 20))
        return {
            "x": torch.randn(batch, length, 128, generator=generator),
            "memory": torch.randn(batch, 15, 128, generator=generator),
        }

    return Example(
        model, lambda m, x, memory: m(x, memory), inputs, {"x": {0: "batch", 1: "length"}, "memory": {0: "batch"}}
    )


ZOO["torch_decoder"] = _torch_decoder

HELD_OUT = frozenset(
    "roberta esm roformer squeezebert gpt_bigcode falcon_alibi nemotron persimmon olmo helium exaone4 ernie4_5 "
    "seed_oss qwen2 smollm3 glm phi_kv mistral_kv bart marian timm_deit3 timm_cait timm_twins timm_crossvit "
    "timm_mvitv2 timm_gcvit timm_hiera timm_volo dinov2 dpt wavlm sew torch_decoder".split()
)
"""Architectures that no rule is developed on."""


# --- exporting --------------------------------------------------------------------------------------------------------


class _Wrapped(nn.Module):
    """A model that takes and gives tensors alone."""

    def __init__(self, example: Example) -> None:
        super().__init__()
        self.core, self.call = example.module, (example.call,)

    def forward(self, *inputs: Tensor) -> Any:
        return self.call[0](self.core, *inputs)


def _flat(result: Any) -> Sequence[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result if part is not None for tensor in _flat(part)]


def write(directory: Path, name: str, route: str) -> str:
    """Export one architecture by one route; the line to print."""
    attention = "eager" if route == "ts" else "sdpa"
    torch.manual_seed(0)
    example = ZOO[name](attention)
    perturb(example.module, zlib.crc32(name.encode()))
    module, path = _Wrapped(example).eval(), directory / f"{name}__{route}.onnx"
    samples = [example.inputs(other) for other in (False, True)]
    names, arguments = list(samples[0]), tuple(samples[0].values())
    with torch.no_grad():
        count = len(_flat(module(*arguments)))
    outputs = [f"output_{index}" for index in range(count)]
    if route == "ts":
        axes = {**example.dynamic, **({outputs[0]: {0: "batch"}} if example.dynamic else {})}
        torch.onnx.export(
            module, arguments, str(path), input_names=names, output_names=outputs, dynamo=False, opset_version=17,
            dynamic_axes={key: dict(dims) for key, dims in axes.items()}, verbose=False,
        )  # fmt: skip
    else:
        shapes = None if route == "static" else (tuple(dict(example.dynamic.get(key, {})) for key in names),)
        program = torch.onnx.export(
            module,
            arguments,
            input_names=names,
            output_names=outputs,
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
        )
        assert program is not None
        program.save(str(path))
    return _save_inputs(path, samples if route != "static" else samples[:1])


def _save_inputs(path: Path, samples: Sequence[Inputs]) -> str:
    """Write the inputs that the model has; delete a model that does not run on them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = [value.name for value in session.get_inputs()]
    for sample, suffix in zip(samples, (".inputs.npz", ".inputs2.npz"), strict=False):
        feeds = {key: value.numpy() for key, value in sample.items() if key in wanted}
        try:
            session.run(None, feeds)
        except Exception as error:
            if suffix == ".inputs.npz":
                path.unlink()
                raise
            return f"runs at the first sizes alone ({str(error)[:80]})"
        np.savez(path.with_suffix(suffix), **feeds)
    return "written"


def _write_one(directory: Path, name: str) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for route in ("dynamo", "ts"):
        try:
            print(f"{name}__{route}: {write(directory, name, route)}", flush=True)
        except Exception as error:
            lines = " | ".join(line.strip() for line in str(error).splitlines() if line.strip())
            print(f"{name}__{route}: NOT WRITTEN: {type(error).__name__}: {lines[:300]}", flush=True)
            if route == "dynamo":
                try:
                    print(f"{name}__static: {write(directory, name, 'static')}", flush=True)
                except Exception as second:
                    print(f"{name}__static: NOT WRITTEN: {type(second).__name__}: {str(second)[:200]!r}", flush=True)


def main() -> None:
    """Write each architecture in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", nargs="*", default=sorted(ZOO))
    parser.add_argument("--here", action="store_true", help="in this process")
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        if arguments.here:
            _write_one(arguments.directory, name)
            continue
        command = [sys.executable, __file__, str(arguments.directory), "--here", "--only", name]
        try:
            subprocess.run(
                command,
                timeout=TIMEOUT,
                check=False,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
                stderr=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: NOT WRITTEN: no result within {TIMEOUT} s", flush=True)


if __name__ == "__main__":
    main()
