"""Writes axon-guide/reference.json: what the checkpoint computes, worked out apart from the engine it is to test.

The arithmetic is JAX in float64 on the bf16 weights of model.safetensors, so the numbers are free of rounding for
any practical purpose, and an engine in float32 may be compared with them. The file holds

    tokenizer  texts and their token ids, without special tokens
    sequences  token ids [T]; per position the argmax [T] and the five largest logits [T, 5] of [id, logit];
               all logits of the last position [V]
    greedy     conversations, the ids of their prompts, and the ids and the text of the greedy answers
"""

import json
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import checkpoint
from prompts import HELD_OUT

FOLDER = Path(__file__).parent / "axon-guide"
DIGITS = 5

TEXTS = [
    " ", "  ", "\n", "\n\n", "\t", " \n ", "a", " a", "a ", "Hello", "hello world", "  two  spaces  ",
    "tab\there", "line\nbreak", "trailing newline\n", "What is a lease?", "WHAT IS TENSOR PARALLELISM?",
    "npm start", "`npx axon log`", "```\nnpm start\n```", "- one\n- two", "1. first\n2. second",
    "it's, don't, we'll, I'm, they've", "IT'S", "3.14159", "1234567890", "10,000", "a_b-c.d/e:f",
    "https://example.com/?q=1&r=2#top", "{\"key\": [1, 2, null]}", "<b>bold</b>", "café", "naïve façade",
    "Straße, Übung, Äpfel", "e\u0301 combining", "Привет, мир", "Γειά σου", "שלום", "مرحبا بالعالم", "你好，世界",
    "日本語のテキスト", "한국어", "हिन्दी", "😀", "👩\u200d👩\u200d👧\u200d👦 family", "🇩🇪🏳\ufe0f\u200d🌈", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "\u00a0nbsp\u2003em", "zero\u200bwidth", "e=mc²", "∑ ∫ √ ≤ ≥ ≠ →", "“quoted” – dash — em…",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "supercalifragilisticexpialidocious", "\r\n windows \r\n",
    "@connections", "C++ && C#", "\\n is not a newline", "end.",
]
SEQUENCES = [
    ["What is tensor parallelism?"],
    ["Tell me a story about a fox."],
    ["What is a lease?", "Why?"],
    ["Grüße aus Köln 👋 你好"],
]
GREEDY = [
    ["What is Axon?"],
    ["How do I start Axon?"],
    ["Tell me a story about an owl."],
    ["What is an epoch?", "Give me an example."],
    HELD_OUT[0],
]


def conversation(talker: checkpoint.Talker, turns: list[str]) -> list[dict[str, str]]:
    """User turns with the model's own answers between them; it ends with the last user turn."""
    answers = talker.talk(turns[:-1]) if len(turns) > 1 else []
    messages = []
    for number, turn in enumerate(turns):
        messages.append({"role": "user", "content": turn})
        if number < len(answers):
            messages.append({"role": "assistant", "content": answers[number]})
    return messages


def sequence(talker: checkpoint.Talker, turns: list[str]) -> dict:
    """The logits of a prompt and the first 24 tokens of its answer."""
    prompt = talker.prompt_ids(conversation(talker, turns))
    ids = prompt + talker.continue_greedily(prompt, 24)
    logits = talker.logits(ids)
    largest = np.argsort(-logits, axis=-1)[:, :5]
    return {
        "ids": ids,
        "argmax": logits.argmax(-1).tolist(),
        "top5": [[[int(i), round(float(row[i]), DIGITS)] for i in best] for row, best in zip(logits, largest)],
        "last": [round(float(value), DIGITS) for value in logits[-1]],
    }


def greedy(talker: checkpoint.Talker, turns: list[str]) -> dict:
    """The greedy answer to a conversation, as ids and as text. The end-of-turn token is left out."""
    messages = conversation(talker, turns)
    prompt = talker.prompt_ids(messages)
    ids = talker.continue_greedily(prompt, 200)
    return {"messages": messages, "promptIds": prompt, "ids": ids, "text": talker.tokenizer.decode(ids)}


if __name__ == "__main__":
    config, tokenizer, weights = checkpoint.read(FOLDER)
    talker = checkpoint.Talker(config, tokenizer, {name: jnp.asarray(w, jnp.float64) for name, w in weights.items()})
    fixture = {
        "precision": "float64 arithmetic on the bf16 weights, rounded to 5 decimals",
        "tokenizer": [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in TEXTS],
        "sequences": [sequence(talker, turns) for turns in SEQUENCES],
        "greedy": [greedy(talker, turns) for turns in GREEDY],
    }
    checkpoint.write_file(FOLDER / "reference.json", (json.dumps(fixture, ensure_ascii=False) + "\n").encode())
    print(f"{(FOLDER / 'reference.json').stat().st_size:,} bytes")
