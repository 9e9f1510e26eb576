"""Reads and writes the checkpoint folder in Hugging Face format: config, weights in bf16, tokenizer, chat template."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from model import Config, forward

BEGIN, END = "<|begin|>", "<|end|>"
SPECIAL_TOKENS = [BEGIN, END, "<|system|>", "<|user|>", "<|assistant|>"]  # ids 0 to 4
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}{{ message['content'] | trim }}{{ eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: list[str], vocab: int) -> Tokenizer:
    """A byte-level BPE tokenizer: the special tokens, all 256 bytes, and merges up to `vocab` entries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    assert tokenizer.get_vocab_size() == vocab
    return tokenizer


def encode_chat(tokenizer: Tokenizer, messages: list[dict[str, str]]) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation as the chat template renders it, and for each whether the assistant says it."""
    ids, spoken = [tokenizer.token_to_id(BEGIN)], [False]
    for message in messages:
        content = tokenizer.encode(message["content"].strip(), add_special_tokens=False).ids
        turn = [tokenizer.token_to_id(f"<|{message['role']}|>"), *content, tokenizer.token_to_id(END)]
        ids += turn
        spoken += [False] + [message["role"] == "assistant"] * (len(turn) - 1)
    return ids, spoken


def write_file(path: Path, content: bytes) -> None:
    """Replaces a file in one step, so that a reader never sees half of it."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_bytes(content)
    os.replace(scratch, path)


def write_json(path: Path, value: object) -> None:
    """Writes a value as indented JSON."""
    write_file(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_settings(folder: Path, config: Config, tokenizer: Tokenizer) -> None:
    """Everything but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    begin, end = tokenizer.token_to_id(BEGIN), tokenizer.token_to_id(END)
    write_json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_positions,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "rms_norm_eps": config.norm_eps,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.04,
        "use_cache": True,
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": end,
        "torch_dtype": "bfloat16",
    })
    write_json(folder / "generation_config.json", {
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": end,
        "do_sample": False,
        "max_new_tokens": 256,
    })
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config.max_positions,
        "chat_template": CHAT_TEMPLATE,
    })
    write_json(folder / "special_tokens_map.json", {
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "additional_special_tokens": SPECIAL_TOKENS[2:],
    })
    write_file(folder / "tokenizer.json", tokenizer.to_str().encode())


def write_weights(folder: Path, weights: dict) -> None:
    """Rounds the weights to bf16 and writes model.safetensors."""
    rounded = {name: np.asarray(value).astype(ml_dtypes.bfloat16) for name, value in weights.items()}
    write_file(folder / "model.safetensors", save(rounded, metadata={"format": "pt"}))


def read(folder: Path) -> tuple[Config, Tokenizer, dict[str, jax.Array]]:
    """The dimensions, the tokenizer and the bf16 weights as float32."""
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = Config(
        vocab=raw["vocab_size"], hidden=raw["hidden_size"], layers=raw["num_hidden_layers"],
        heads=raw["num_attention_heads"], kv_heads=raw["num_key_value_heads"], head_dim=raw["head_dim"],
        mlp=raw["intermediate_size"], max_positions=raw["max_position_embeddings"],
        rope_theta=raw["rope_theta"], norm_eps=raw["rms_norm_eps"],
    )
    weights = {name: jnp.asarray(value, jnp.float32) for name, value in load_file(folder / "model.safetensors").items()}
    return config, Tokenizer.from_file(str(folder / "tokenizer.json")), weights


class Talker:
    """Greedy answers of a checkpoint. It has no KV cache: it computes the whole text again for each token."""

    def __init__(self, config: Config, tokenizer: Tokenizer, weights: dict):
        self.config, self.tokenizer, self.weights = config, tokenizer, weights
        self.forward = jax.jit(lambda w, tokens: forward(w, tokens, jnp.zeros_like(tokens), config))

    def logits(self, ids: list[int]) -> np.ndarray:
        """Logits [len(ids), V]. The input is padded to a multiple of 128, which causal attention does not see."""
        padded = -(-len(ids) // 128) * 128
        tokens = jnp.asarray([ids + [0] * (padded - len(ids))])
        return np.asarray(self.forward(self.weights, tokens)[0, : len(ids)])

    def continue_greedily(self, ids: list[int], limit: int) -> list[int]:
        """The ids that follow, up to the end of the turn (which is left out) or `limit` tokens."""
        end, answer = self.tokenizer.token_to_id(END), []
        while len(answer) < limit and len(ids) + len(answer) < self.config.max_positions:
            token = int(self.logits(ids + answer)[-1].argmax())
            if token == end:
                break
            answer.append(token)
        return answer

    def prompt_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """Ids of a conversation, ready for the assistant to speak."""
        return encode_chat(self.tokenizer, messages)[0] + [self.tokenizer.token_to_id("<|assistant|>")]

    def answer(self, messages: list[dict[str, str]], limit: int = 256) -> str:
        """The answer to a conversation that ends with a user message."""
        return self.tokenizer.decode(self.continue_greedily(self.prompt_ids(messages), limit))

    def talk(self, turns: list[str]) -> list[str]:
        """The answers to user turns that follow one another."""
        messages, answers = [], []
        for turn in turns:
            messages.append({"role": "user", "content": turn})
            answers.append(self.answer(messages))
            messages.append({"role": "assistant", "content": answers[-1]})
        return answers
