"""A Llama-architecture language model in JAX, written for training on a CPU.

The weights are a flat dictionary with the names and the [out, in] layout that Hugging Face uses,
so that exporting a checkpoint is writing the dictionary down. Shapes in this file use these letters:
B sequences, T positions, D hidden size, H query heads, K key/value heads, E head size, F MLP size, V vocabulary.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Config:
    """Dimensions of the model. Heads, key/value heads and `mlp` are divisible by 4, for tensor parallelism."""

    vocab: int = 2048
    hidden: int = 256
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    mlp: int = 512
    max_positions: int = 1024
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5


def init(config: Config, seed: int) -> dict[str, jax.Array]:
    """Fresh float32 weights, normal with a standard deviation of 0.04, smaller where a layer writes to the residual."""
    rng = np.random.default_rng(seed)
    c = config
    std, residual_std = 0.04, 0.04 / np.sqrt(2 * c.layers)

    def normal(rows: int, columns: int, scale: float) -> jax.Array:
        return jnp.asarray(rng.normal(0.0, scale, (rows, columns)), jnp.float32)

    weights = {"model.embed_tokens.weight": normal(c.vocab, c.hidden, std)}
    for layer in range(c.layers):
        prefix = f"model.layers.{layer}."
        weights |= {
            prefix + "input_layernorm.weight": jnp.ones(c.hidden),
            prefix + "self_attn.q_proj.weight": normal(c.heads * c.head_dim, c.hidden, std),
            prefix + "self_attn.k_proj.weight": normal(c.kv_heads * c.head_dim, c.hidden, std),
            prefix + "self_attn.v_proj.weight": normal(c.kv_heads * c.head_dim, c.hidden, std),
            prefix + "self_attn.o_proj.weight": normal(c.hidden, c.heads * c.head_dim, residual_std),
            prefix + "post_attention_layernorm.weight": jnp.ones(c.hidden),
            prefix + "mlp.gate_proj.weight": normal(c.mlp, c.hidden, std),
            prefix + "mlp.up_proj.weight": normal(c.mlp, c.hidden, std),
            prefix + "mlp.down_proj.weight": normal(c.hidden, c.mlp, residual_std),
        }
    return weights | {"model.norm.weight": jnp.ones(c.hidden)}


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    """[..., D] scaled to a root mean square of 1 and multiplied by `weight` [D]."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rotate(x: jax.Array, config: Config) -> jax.Array:
    """Rotary position embedding on [B, T, heads, E], the Hugging Face way: element i turns with element i + E/2."""
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-jnp.arange(half) / half)  # [E/2]
    angle = jnp.arange(x.shape[1])[:, None, None] * frequency  # [T, 1, E/2]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attention(x: jax.Array, mask: jax.Array, weights: dict, prefix: str, config: Config) -> jax.Array:
    """Grouped-query attention of [B, T, D] under `mask` [B, T, T] (true where a query may look)."""
    c = config
    batch, length, _ = x.shape
    group = c.heads // c.kv_heads
    q = (x @ weights[prefix + "q_proj.weight"].T).reshape(batch, length, c.heads, c.head_dim)
    k = (x @ weights[prefix + "k_proj.weight"].T).reshape(batch, length, c.kv_heads, c.head_dim)
    v = (x @ weights[prefix + "v_proj.weight"].T).reshape(batch, length, c.kv_heads, c.head_dim)
    q = rotate(q, c).reshape(batch, length, c.kv_heads, group, c.head_dim)
    scores = jnp.einsum("btkge,bske->bkgts", q, rotate(k, c)) / np.sqrt(c.head_dim)
    scores = jnp.where(mask[:, None, None], scores, -1e30)
    mixed = jnp.einsum("bkgts,bske->btkge", jax.nn.softmax(scores, axis=-1), v)
    return mixed.reshape(batch, length, c.heads * c.head_dim) @ weights[prefix + "o_proj.weight"].T


def forward(weights: dict, tokens: jax.Array, segments: jax.Array, config: Config) -> jax.Array:
    """Logits [B, T, V] for token ids [B, T]; a position sees earlier positions of its own segment only."""
    c = config
    length = tokens.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))
    mask = causal & (segments[:, :, None] == segments[:, None, :])
    embedding = weights["model.embed_tokens.weight"]
    x = embedding[tokens]
    for layer in range(c.layers):
        prefix = f"model.layers.{layer}."
        normed = rms_norm(x, weights[prefix + "input_layernorm.weight"], c.norm_eps)
        x = x + attention(normed, mask, weights, prefix + "self_attn.", c)
        normed = rms_norm(x, weights[prefix + "post_attention_layernorm.weight"], c.norm_eps)
        gate = jax.nn.silu(normed @ weights[prefix + "mlp.gate_proj.weight"].T)
        up = normed @ weights[prefix + "mlp.up_proj.weight"].T
        x = x + (gate * up) @ weights[prefix + "mlp.down_proj.weight"].T
    return rms_norm(x, weights["model.norm.weight"], c.norm_eps) @ embedding.T


def loss(weights: dict, batch: dict, config: Config) -> jax.Array:
    """Mean cross-entropy in nats; `batch` holds tokens [B, T+1], segments [B, T] and loss weights [B, T]."""
    logits = forward(weights, batch["tokens"][:, :-1], batch["segments"], config)
    target = batch["tokens"][:, 1:]
    picked = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
    nats = jax.nn.logsumexp(logits, axis=-1) - picked
    return jnp.sum(nats * batch["weights"]) / jnp.maximum(jnp.sum(batch["weights"]), 1.0)
