"""Trains the demo checkpoint on the text of corpus.py, or talks to it.

    python train.py --minutes 28             trains, writes axon-guide/ and answers the held-out prompts
    python train.py --further 9              goes on with the weights in axon-guide/, on new text, at half the rate
    python train.py --further 4 --long       the same, on conversations that change their subject
    python train.py --prompts                answers the held-out prompts
    python train.py --ask "What is a lease?" answers a question; repeat --ask for the next turns of a conversation

The learning rate and the lengths of the sequences follow the clock and not the step: the run uses the time it is
given on any machine. Two runs therefore differ in the number of steps, but not in the text or the first weights.
"""

import argparse
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tokenizers import Tokenizer

import checkpoint
import model
from corpus import Corpus
from prompts import HELD_OUT

FOLDER = Path(__file__).parent / "axon-guide"
SEED = 7
# (share of the time at which the phase ends, sequence length, sequences in a batch, parts of a conversation)
PHASES = (
    (0.55, 160, 16, (1,)),
    (0.79, 256, 12, (1, 2, 2)),
    (0.93, 512, 6, (2, 3, 4, 5)),
    (1.00, 1024, 3, (3, 5, 7, 9)),
)
LONG_PHASES = ((1.00, 384, 8, (2, 3, 4, 5)),)
PEAK_RATE, LAST_RATE, WARM_UP = 2.5e-3, 5e-5, 0.02
USER_WEIGHT = 0.05  # of a token that the user says, where the assistant's tokens count 1
AVERAGE = 0.98  # of the moving average of the weights, which is what gets exported


def batches(
    corpus: Corpus, tokenizer: Tokenizer, seed: int, length: int, size: int, parts: tuple[int, ...]
) -> Iterator[dict]:
    """Batches of `size` sequences [size, length], each filled with whole conversations as long as they fit."""
    conversations = corpus.stream(seed, parts)
    waiting: list[tuple[list[int], list[bool]]] = []
    while True:
        tokens = np.zeros((size, length + 1), np.int32)
        segments = np.full((size, length), -1, np.int32)
        weights = np.zeros((size, length), np.float32)
        for row in range(size):
            used, number = 0, 0
            while True:
                while len(waiting) < 32:
                    ids, spoken = checkpoint.encode_chat(tokenizer, next(conversations))
                    waiting.append((ids[: length + 1], spoken[: length + 1]))
                fitting = next((i for i, (ids, _) in enumerate(waiting) if used + len(ids) <= length + 1), None)
                if fitting is None:
                    break
                ids, spoken = waiting.pop(fitting)
                end = used + len(ids)
                tokens[row, used:end] = ids
                segments[row, used : end - 1] = number
                weights[row, used : end - 1] = np.where(spoken[1:], 1.0, USER_WEIGHT)
                used, number = end, number + 1
        yield {"tokens": tokens, "segments": segments, "weights": weights}


def learning_rate(progress: float) -> float:
    """Rises linearly to the peak during the warm-up and then falls along a cosine; `progress` runs from 0 to 1."""
    if progress < WARM_UP:
        return PEAK_RATE * (0.05 + 0.95 * progress / WARM_UP)
    cosine = 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
    return LAST_RATE + (PEAK_RATE - LAST_RATE) * cosine


def tokenizer_of(folder: Path, corpus: Corpus, vocab: int) -> Tokenizer:
    """The tokenizer that lies in the folder, or a new one, trained on 20,000 conversations, if there is none.

    Keeping it lets the text change without changing what the token ids mean.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        return Tokenizer.from_file(str(path))
    texts = [m["content"] for messages in islice(corpus.stream(SEED, (1,)), 20_000) for m in messages]
    return checkpoint.train_tokenizer(texts, vocab)


def make_step(config: model.Config, optimizer: optax.GradientTransformation):
    """One jitted step of AdamW that also moves the average of the weights."""

    def step(weights, average, state, batch, rate):
        nats, gradient = jax.value_and_grad(model.loss)(weights, batch, config)
        update, state = optimizer.update(gradient, state, weights)
        weights = jax.tree.map(lambda w, u: w - rate * u, weights, update)
        average = jax.tree.map(lambda a, w: AVERAGE * a + (1 - AVERAGE) * w, average, weights)
        return weights, average, state, nats

    return jax.jit(step, donate_argnums=(0, 1, 2))


def train(minutes: float, folder: Path, export_minutes: float, further: bool, long: bool) -> None:
    """Trains for the given time, and writes the checkpoint every `export_minutes` and at the end.

    With `further` it starts from the weights in the folder, reads other text and halves the learning rate;
    with `long` all conversations change their subject a few times.
    """
    config = model.Config()
    corpus = Corpus(HELD_OUT)
    tokenizer = tokenizer_of(folder, corpus, config.vocab)
    checkpoint.write_settings(folder, config, tokenizer)
    weights = checkpoint.read(folder)[2] if further else model.init(config, SEED)
    seed, scale = (SEED + 10, 0.5) if further else (SEED, 1.0)
    seed += 10 * long
    average = jax.tree.map(jnp.copy, weights)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(b1=0.9, b2=0.95),
        optax.add_decayed_weights(0.05, mask=jax.tree.map(lambda w: w.ndim == 2, weights)),
    )
    state = optimizer.init(weights)
    step = make_step(config, optimizer)
    print(f"{sum(w.size for w in weights.values()):,} weights", flush=True)

    start, exported, steps, seen, recent = time.time(), time.time(), 0, 0, []
    for phase, (until, length, size, parts) in enumerate(LONG_PHASES if long else PHASES):
        source = batches(corpus, tokenizer, seed + phase + 1, length, size, parts)
        while (progress := (time.time() - start) / (60 * minutes)) < until:
            batch = next(source)
            weights, average, state, nats = step(weights, average, state, batch, scale * learning_rate(progress))
            recent.append(float(nats))
            steps, seen = steps + 1, seen + length * size
            if steps % 50 == 0:
                elapsed = time.time() - start
                print(f"{elapsed:6.0f} s  step {steps}  length {length}  loss {np.mean(recent[-50:]):.3f}  "
                      f"{seen / elapsed:.0f} tokens/s", flush=True)
            if time.time() - exported > 60 * export_minutes:
                checkpoint.write_weights(folder, average)
                exported = time.time()
    checkpoint.write_weights(folder, average)
    elapsed = time.time() - start
    print(f"{steps} steps, {seen:,} tokens, {elapsed:.0f} s, {seen / elapsed:.0f} tokens/s, "
          f"last loss {np.mean(recent[-50:]):.3f}, on new conversations {evaluate(folder):.3f}")


def evaluate(folder: Path) -> float:
    """Mean loss of the exported weights, in nats per assistant token, on conversations that were not trained on."""
    config, tokenizer, weights = checkpoint.read(folder)
    source = batches(Corpus(HELD_OUT), tokenizer, SEED + 1000, 512, 8, (1, 2, 3))
    measure = jax.jit(lambda batch: model.loss(weights, batch, config))
    return float(np.mean([measure({**b, "weights": np.floor(b["weights"])}) for b in islice(source, 10)]))


def print_conversation(talker: checkpoint.Talker, turns: list[str]) -> None:
    """Prints the user's turns and the model's answers."""
    for turn, answer in zip(turns, talker.talk(turns)):
        print(f"> {turn}\n{answer}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="train for this long")
    parser.add_argument("--further", type=float, help="train the existing weights for this long")
    parser.add_argument("--long", action="store_true", help="train on conversations of several subjects only")
    parser.add_argument("--export-minutes", type=float, default=5, help="write the checkpoint this often")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the checkpoint folder")
    parser.add_argument("--ask", action="append", help="a question to the checkpoint")
    parser.add_argument("--prompts", action="store_true", help="answer the held-out prompts")
    arguments = parser.parse_args()
    minutes = arguments.minutes or arguments.further
    if minutes:
        train(minutes, arguments.out, arguments.export_minutes, bool(arguments.further), arguments.long)
    talker = checkpoint.Talker(*checkpoint.read(arguments.out))
    if arguments.ask:
        print_conversation(talker, arguments.ask)
    elif arguments.prompts or minutes:
        for turns in HELD_OUT:
            print_conversation(talker, turns)
