"""Loads the checkpoint in Hugging Face transformers and compares it with axon-guide/reference.json.

It needs `pip install torch transformers`, which the training does not.
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(__file__).parent / "axon-guide"


def main() -> None:
    """Compares token ids, chat template, logits and greedy answers; raises AssertionError on any that differ."""
    fixture = json.loads((FOLDER / "reference.json").read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    for case in fixture["tokenizer"]:
        assert tokenizer.encode(case["text"], add_special_tokens=False) == case["ids"], case["text"]
        assert tokenizer.decode(case["ids"]) == case["text"], case["text"]

    largest = 0.0
    with torch.inference_mode():
        for case in fixture["sequences"]:
            logits = model(torch.tensor([case["ids"]])).logits[0]  # [T, V]
            assert logits.argmax(-1).tolist() == case["argmax"]
            largest = max(largest, (logits[-1] - torch.tensor(case["last"])).abs().max().item())
            for row, best in zip(logits, case["top5"]):
                largest = max(largest, *(abs(row[i].item() - value) for i, value in best))
        for case in fixture["greedy"]:
            messages = case["messages"]
            prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            assert prompt == case["promptIds"], messages
            inputs = torch.tensor([prompt])
            mask = torch.ones_like(inputs)
            output = model.generate(inputs, attention_mask=mask, max_new_tokens=200, do_sample=False)[0].tolist()
            answer = [i for i in output[len(prompt) :] if i != tokenizer.eos_token_id]
            assert answer == case["ids"], tokenizer.decode(answer)
    print(f"transformers {transformers.__version__}, torch {torch.__version__}: tokens, chat template and greedy "
          f"answers are the same; largest difference of a logit {largest:.1e}")


if __name__ == "__main__":
    main()
