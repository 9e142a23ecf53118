"""Architectures that were added when the rules for the others were done: those that fewer exports are of."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from zoo import (
    BART,
    BERT,
    LLAMA,
    MHA,
    SPEECH,
    T5,
    VIT,
    audio,
    decoder,
    encoder,
    from_config,
    image_net,
    network,
    seq2seq,
    vision,
)

# --- text encoders ----------------------------------------------------------------------------------------------------

for _name in (
    "data2vec-text",
    "ernie",
    "ibert",
    "megatron-bert",
    "rembert",
    "splinter",
    "tapas",
    "luke",
):
    encoder(_name.replace("-", "_"), _name, **BERT)
for _name in ("roberta-prelayernorm", "convbert", "fnet", "eurobert", "nomic_bert", "esmc"):
    encoder(_name.replace("-", "_"), _name, **BERT, pad_token_id=0)
encoder("xmod", "xmod", **BERT, default_language="en_XX")
encoder("lilt", "lilt", **{**BERT, "hidden_size": 96})  # the size is divided by 6, too
encoder("longformer", "longformer", **BERT, attention_window=16, max_position_embeddings=128)
encoder("big_bird", "big_bird", **BERT, attention_type="original_full", max_position_embeddings=128)

# --- decoders ---------------------------------------------------------------------------------------------------------

_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
_LATENT = {"kv_lora_rank": 32, "q_lora_rank": 48, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32}

decoder("gpt_oss", "gpt_oss", **LLAMA, head_dim=32, sliding_window=16, num_local_experts=4, num_experts_per_tok=2)
decoder(
    "gemma3n",
    "gemma3n_text",
    **LLAMA,
    head_dim=32,
    sliding_window=16,
    vocab_size_per_layer_input=1000,
    hidden_size_per_layer_input=32,
    num_kv_shared_layers=0,
    layer_types=["sliding_attention", "full_attention"],
    laurel_rank=16,
    activation_sparsity_pattern=[0.5, 0.0],
)
decoder(
    "gemma4",
    "gemma4_text",
    **LLAMA,
    head_dim=32,
    global_head_dim=32,
    sliding_window=16,
    vocab_size_per_layer_input=1000,
)
decoder("glm4", "glm4", **LLAMA, head_dim=32)
decoder("olmo3", "olmo3", **LLAMA, sliding_window=16)
decoder("olmoe", "olmoe", **MHA, num_experts=4, num_experts_per_tok=2)
decoder("qwen3_moe", "qwen3_moe", **LLAMA, **_MOE, head_dim=32)
decoder("xglm", "xglm", d_model=128, ffn_dim=256, num_layers=2, attention_heads=4, max_position_embeddings=128)
decoder("ctrl", "ctrl", n_embd=128, dff=256, n_layer=2, n_head=4, n_positions=128)
decoder("openai_gpt", "openai-gpt", n_embd=128, n_layer=2, n_head=4, n_positions=128)
decoder("biogpt", "biogpt", **BERT, max_position_embeddings=128)
decoder("gpt_neox_japanese", "gpt_neox_japanese", **BERT, intermediate_multiple_size=2)
decoder("phi3", "phi3", **LLAMA)
decoder("nanochat", "nanochat", **LLAMA)
decoder("diffllama", "diffllama", **LLAMA)
decoder("doge", "doge", **LLAMA, keep_window_size=256)
decoder("apertus", "apertus", **LLAMA)
decoder("bitnet", "bitnet", **LLAMA)
decoder("internlm3", "internlm3", **LLAMA, head_dim=32)
decoder("minicpm3", "minicpm3", **MHA, **_LATENT)
decoder("deepseek_v3", "deepseek_v3", **MHA, **_LATENT, first_k_dense_replace=2)
decoder("youtu", "youtu", **MHA, **_LATENT)
decoder("recurrent_gemma", "recurrent_gemma", **LLAMA, attention_window_size=16, lru_width=128)
decoder("jamba", "jamba", **LLAMA, attn_layer_period=2, attn_layer_offset=1, use_mamba_kernels=False, num_experts=1)

# --- encoders and decoders --------------------------------------------------------------------------------------------

for _name in ("mbart", "plbart", "bigbird_pegasus", "pegasus_x", "led"):
    seq2seq(
        _name.replace("-", "_"), _name, **BART, max_position_embeddings=128, pad_token_id=1, decoder_start_token_id=2
    )
for _name in ("umt5", "longt5", "switch_transformers"):
    seq2seq(_name, _name, **T5)

# --- images -----------------------------------------------------------------------------------------------------------

for _name, _kind, _size, _fields in (
    ("timm_convit", "convit_tiny", 64, {"img_size": 64, "depth": 3, "local_up_to_layer": 2}),
    ("timm_tnt", "tnt_s_patch16_224", 64, {"img_size": 64, "depth": 2}),
    ("timm_pit", "pit_ti_224", 224, {}),
    ("timm_nest", "nest_tiny", 64, {"img_size": 64}),
    ("timm_sequencer", "sequencer2d_s", 64, {"layers": (1, 1, 1, 1), "img_size": 64}),
    ("timm_mobilevit", "mobilevit_xxs", 64, {}),
    ("timm_efficientformer", "efficientformer_l1", 224, {}),
    ("timm_efficientformer2", "efficientformerv2_s0", 224, {}),
    ("timm_efficientvit_mit", "efficientvit_b0", 64, {}),
    ("timm_efficientvit_msra", "efficientvit_m0", 224, {}),
    ("timm_fastvit", "fastvit_sa12", 64, {"layers": (1, 1, 1, 1)}),
    ("timm_repvit", "repvit_m0_9", 64, {}),
    ("timm_vitamin", "vitamin_small_224", 64, {"img_size": 64}),
    ("timm_naflexvit", "naflexvit_base_patch16_gap", 64, {"depth": 2, "embed_dim": 128, "num_heads": 4}),
    ("timm_nextvit", "nextvit_small", 64, {"depths": (1, 1, 5, 1)}),
    ("timm_caformer", "caformer_s18", 64, {}),
    ("timm_tinyvit", "tiny_vit_5m_224", 224, {}),
    ("timm_swinv2_cr", "swinv2_cr_tiny_224", 64, {"img_size": 64, "window_size": 2, "depths": (1, 1, 1, 1)}),
    ("timm_relpos", "vit_relpos_small_patch16_224", 64, {"img_size": 64, "depth": 2}),
    ("timm_srelpos", "vit_srelpos_small_patch16_224", 64, {"img_size": 64, "depth": 2}),
    ("timm_sam", "samvit_base_patch16_224", 64, {"img_size": 64, "depth": 3, "embed_dim": 128, "num_heads": 4}),
    ("timm_hieradet", "sam2_hiera_tiny", 64, {}),
    ("timm_halonet", "halonet26t", 256, {}),
    ("timm_botnet", "botnet26t_256", 256, {}),
    ("timm_lambda", "lambda_resnet26t", 128, {}),
    ("timm_iformer", "iformer_t", 224, {}),
    ("timm_rope", "vit_small_patch16_rope_224", 64, {"img_size": 64, "depth": 2}),
    ("timm_dinov3", "vit_small_patch16_dinov3", 64, {"img_size": 64, "depth": 2}),
    ("timm_siglip", "vit_base_patch16_siglip_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 128, "num_heads": 4}),
    ("timm_parallel", "vit_small_patch16_18x2_224", 64, {"img_size": 64, "depth": 2}),
    ("timm_diff", "vit_dlittle_patch16_reg1_gap_256", 64, {"img_size": 64, "depth": 2}),
    ("timm_clip_rn", "resnet50_clip", 224, {}),
    ("timm_coatnet", "coatnet_nano_rw_224", 64, {"img_size": 64}),
):
    image_net(_name, _kind, _size, **_fields)

_SWIN = {"image_size": 64, "embed_dim": 48, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
vision("dinov2_reg", "AutoModel", "dinov2_with_registers", 64, **VIT)
vision("vit_mae", "AutoModel", "vit_mae", 64, **VIT, mask_ratio=0.0)
vision(
    "vitdet",
    "AutoModel",
    "vitdet",
    64,
    **VIT,
    window_block_indices=[0],
    window_size=4,
    use_relative_position_embeddings=True,
)
vision("data2vec_vision", "AutoModel", "data2vec-vision", 64, **VIT, use_relative_position_bias=True)
vision(
    "yolos",
    "AutoModelForObjectDetection",
    "yolos",
    64,
    lambda r: (r.logits, r.pred_boxes),
    **{**VIT, "image_size": [64, 64]},
)
vision("hiera", "AutoModel", "hiera", 64, image_size=[64, 64], depths=[1, 1, 2, 1], embed_dim=32)
vision("swin2sr", "AutoModel", "swin2sr", 64, **_SWIN)
vision(
    "groupvit",
    "GroupViTVisionModel",
    "groupvit_vision_model",
    64,
    **VIT,
    depths=[1, 1, 1],
    num_group_tokens=[8, 4, 0],
    num_output_groups=[8, 4, 0],
)
vision("clipseg_vision", "CLIPSegVisionModel", "clipseg_vision_model", 64, **VIT)
for _name in ("detr", "conditional_detr"):
    vision(
        _name,
        "AutoModelForObjectDetection",
        _name,
        64,
        lambda r: (r.logits, r.pred_boxes),
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        num_queries=20,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
    )

# --- videos, sounds, series -------------------------------------------------------------------------------------------


def _part(auto: str, kind: str, **fields: Any) -> Any:
    return partial(from_config, auto, kind, **fields)


_VIDEO = {**VIT, "num_frames": 4, "tubelet_size": 2}
network("timesformer", _part("AutoModel", "timesformer", **VIT, num_frames=4), lambda m, x: m(x)[0], x=(4, 3, 64, 64))
network("videomae", _part("AutoModel", "videomae", **_VIDEO), lambda m, x: m(x)[0], x=(4, 3, 64, 64))
network(
    "vjepa2",
    _part(
        "AutoModel",
        "vjepa2",
        **{**VIT, "crop_size": 64},
        frames_per_clip=4,
        pred_hidden_size=64,
        pred_num_attention_heads=4,
        pred_num_hidden_layers=1,
    ),
    lambda m, x: m(x, skip_predictor=True)[0],
    x=(4, 3, 64, 64),
)
network(
    "ast",
    _part("AutoModel", "audio-spectrogram-transformer", **BERT, max_length=64, num_mel_bins=32),
    lambda m, x: m(x)[0],
    x=(64, 32),
)
network(
    "wav2vec2_bert",
    _part("AutoModel", "wav2vec2-bert", **BERT, feature_projection_input_dim=40),
    lambda m, x: m(x)[0],
    x=(40, 40),
)
network(
    "parakeet",
    _part("ParakeetEncoder", "parakeet_encoder", **BERT, num_mel_bins=40, subsampling_conv_channels=32),
    lambda m, x: m(x)[0],
    x=(80, 40),
)
network(
    "qwen2_audio",
    _part(
        "Qwen2AudioEncoder",
        "qwen2_audio_encoder",
        d_model=128,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=256,
        num_mel_bins=40,
        max_source_positions=50,
    ),
    lambda m, x: m(x)[0],
    x=(40, 100),
)
network(
    "qformer",
    _part("Blip2QFormerModel", "blip_2_qformer", **BERT, encoder_hidden_size=64),
    lambda m, q, x: m(query_embeds=q, encoder_hidden_states=x)[0],
    q=(8, 128),
    x=(20, 64),
)
network(
    "perceiver",
    _part(
        "PerceiverModel",
        "perceiver",
        d_model=64,
        d_latents=128,
        num_latents=16,
        num_blocks=1,
        num_self_attends_per_block=2,
        num_self_attention_heads=4,
        num_cross_attention_heads=4,
        qk_channels=128,
        v_channels=128,
    ),
    lambda m, x: m(inputs=x)[0],
    x=(30, 64),
)
network(
    "dac",
    _part(
        "DacModel",
        "dac",
        encoder_hidden_size=16,
        decoder_hidden_size=64,
        downsampling_ratios=[2, 4],
        upsampling_ratios=[4, 2],
        n_codebooks=2,
    ),
    lambda m, x: m(x).audio_values,
    x=(1, 512),
)
network(
    "speecht5",
    _part(
        "SpeechT5Model",
        "speecht5",
        hidden_size=128,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
    ),
    lambda m, x: m.encoder.wrapped_encoder(x)[0],
    x=(40, 128),
)
audio("sew_d", "AutoModel", "sew-d", 4000, **SPEECH, squeeze_factor=2)
audio("unispeech_sat", "AutoModel", "unispeech-sat", 4000, **SPEECH)
audio("data2vec_audio", "AutoModel", "data2vec-audio", 4000, **{**SPEECH, "conv_pos_kernel_size": 3})


class _SinkAttention(nn.Module):
    """torch's own layer with a learned key, or one of zeros, beside those of the text."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(128, 4, batch_first=True, **fields)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x, x, x, need_weights=False)[0]
        return result


network("torch_bias_kv", lambda _: _SinkAttention(add_bias_kv=True), x=(20, 128))
network("torch_zero_attn", lambda _: _SinkAttention(add_zero_attn=True), x=(20, 128))


def _torchvision(name: str, **fields: Any) -> nn.Module:
    import torchvision

    module: nn.Module = torchvision.models.get_model(name, weights=None, **fields)
    return module


network("tv_swinv2", lambda _: _torchvision("swin_v2_t"), x=(3, 64, 64))
network("tv_vit", lambda _: _torchvision("vit_b_16", image_size=64), x=(3, 64, 64))
