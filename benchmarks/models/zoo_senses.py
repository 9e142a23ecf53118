"""Networks over images and sounds for the zoo, by timm, transformers and torch."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor, nn
from zoo import (
    BART,
    BERT,
    SPEECH,
    VIT,
    VOCABULARY,
    ZOO,
    Example,
    Inputs,
    audio,
    encoder,
    from_config,
    generator_for,
    image_net,
    tokens,
    vision,
)

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

vision("beit", "AutoModelForImageClassification", "beit", 64, **VIT, use_relative_position_bias=True, num_labels=20)
vision("dinov2", "AutoModel", "dinov2", 64, **VIT)
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
vision("clip_vision", "CLIPVisionModel", "clip_vision_model", 64, **VIT)
vision("siglip_vision", "SiglipVisionModel", "siglip_vision_model", 64, **VIT)
vision("blip_vision", "BlipVisionModel", "blip_vision_model", 64, **VIT)
vision("owlvit_vision", "OwlViTVisionModel", "owlvit_vision_model", 64, **VIT)
vision(
    "sam_vision",
    "SamVisionModel",
    "sam_vision_model",
    64,
    **VIT,
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
    **{**VIT, "num_hidden_layers": 4},
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
encoder("clip_text", "clip_text_model", **BERT, max_position_embeddings=64)

audio("wav2vec2", "AutoModel", "wav2vec2", 4000, **SPEECH)
audio("hubert", "AutoModel", "hubert", 4000, **SPEECH)
audio("wavlm", "AutoModel", "wavlm", 4000, **SPEECH)
audio("sew", "AutoModel", "sew", 4000, **SPEECH)
audio("wav2vec2_conformer", "AutoModel", "wav2vec2-conformer", 4000, **SPEECH, position_embeddings_type="relative")
audio("wav2vec2_rotary", "AutoModel", "wav2vec2-conformer", 4000, **SPEECH, position_embeddings_type="rotary")


def _whisper(attention: str) -> Example:
    fields = {**BART, "num_mel_bins": 40, "max_source_positions": 60, "max_target_positions": 64, "pad_token_id": 0}
    model = from_config("AutoModelForSpeechSeq2Seq", "whisper", attention, vocab_size=VOCABULARY, **fields)

    def inputs(other: bool) -> Inputs:
        ids = tokens(other, (17, 9))["input_ids"]
        return {"features": torch.randn(len(ids), 40, 120, generator=generator_for(other)), "decoder_input_ids": ids}

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
        generator, batch = generator_for(other), 3 if other else 2
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
        generator, (batch, length) = generator_for(other), ((3, 11) if other else (2, 20))
        return {
            "x": torch.randn(batch, length, 128, generator=generator),
            "memory": torch.randn(batch, 15, 128, generator=generator),
        }

    return Example(
        model, lambda m, x, memory: m(x, memory), inputs, {"x": {0: "batch", 1: "length"}, "memory": {0: "batch"}}
    )


ZOO["torch_decoder"] = _torch_decoder
