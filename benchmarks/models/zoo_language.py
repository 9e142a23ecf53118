"""Language models for the zoo, by transformers."""

from __future__ import annotations

from zoo import BART, BERT, LLAMA, MHA, T5, cached, decoder, encoder, seq2seq

for _name in ("electra", "mpnet", "layoutlm", "roberta", "deberta", "nystromformer", "roformer"):
    encoder(_name, _name, **BERT)
encoder("esm", "esm", **BERT, pad_token_id=0, mask_token_id=4)
encoder("deberta_v2", "deberta-v2", **BERT, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=16)
encoder("distilbert", "distilbert", dim=128, n_layers=2, n_heads=4, hidden_dim=256)
encoder("xlnet", "xlnet", d_model=128, n_layer=2, n_head=4, d_inner=256)
encoder("xlm", "xlm", emb_dim=128, n_layers=2, n_heads=4)
encoder("squeezebert", "squeezebert", **BERT, embedding_size=128)
encoder("modernbert", "modernbert", **BERT, pad_token_id=0, local_attention=16)
encoder("mobilebert", "mobilebert", **BERT, embedding_size=64, intra_bottleneck_size=64)

decoder("gpt_neox", "gpt_neox", **BERT, rotary_pct=0.25, max_position_embeddings=256)
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
decoder("phi", "phi", **MHA, partial_rotary_factor=0.5)
for _name in ("stablelm", "olmo2", "mistral", "granite", "starcoder2", "cohere", "cohere2", "qwen2", "smollm3", "glm"):
    decoder(_name, _name, **LLAMA, **({"sliding_window": 16} if _name in ("mistral", "cohere2") else {}))
for _name in ("nemotron", "persimmon", "olmo", "exaone4", "ernie4_5", "seed_oss"):
    decoder(_name, _name, **LLAMA)
decoder("helium", "helium", **LLAMA, head_dim=32)
decoder("qwen3", "qwen3", **LLAMA, head_dim=32)
decoder("gemma", "gemma", **LLAMA, head_dim=32)
decoder("gemma2", "gemma2", **LLAMA, head_dim=32, sliding_window=16)
decoder("gemma3", "gemma3_text", **LLAMA, head_dim=32, sliding_window=16)
decoder("mixtral", "mixtral", **LLAMA, num_local_experts=4)
decoder(
    "deepseek_v2",
    "deepseek_v2",
    **MHA,
    kv_lora_rank=32,
    q_lora_rank=48,
    qk_rope_head_dim=16,
    qk_nope_head_dim=32,
    v_head_dim=32,
    first_k_dense_replace=2,
)
decoder("mamba", "mamba", masked=False, hidden_size=64, num_hidden_layers=2, state_size=8)
decoder("rwkv", "rwkv", masked=False, hidden_size=64, num_hidden_layers=2, attention_hidden_size=64)

cached("gpt_neox_kv", "gpt_neox", 4, 32, **BERT, rotary_pct=0.25, max_position_embeddings=256)
cached("qwen3_kv", "qwen3", 2, 32, **LLAMA, head_dim=32)
cached("gemma2_kv", "gemma2", 2, 32, **LLAMA, head_dim=32, sliding_window=512)
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
cached("mistral_kv", "mistral", 2, 32, **LLAMA, sliding_window=512)
cached("phi_kv", "phi", 4, 32, **MHA, partial_rotary_factor=0.5)

seq2seq("t5", "t5", **T5)
seq2seq("mt5", "mt5", **T5)
for _name in ("pegasus", "m2m_100", "bart", "marian"):
    seq2seq(_name, _name, **BART, max_position_embeddings=128, pad_token_id=1, decoder_start_token_id=2)
