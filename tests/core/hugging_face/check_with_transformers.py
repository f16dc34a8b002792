#!/usr/bin/env python3
"""Loads what Tanren exported with transformers and compares it with the model that was imported.

    tanren ckpt import-hf golden/llama --out /tmp/step
    tanren ckpt export-hf /tmp/step --out /tmp/llama
    python check_with_transformers.py golden/llama /tmp/llama

Both directories are loaded as they stand. Every tensor must be equal bit for bit, and greedy text from three
prompts equal, in float32 as transformers runs it. With golden.json beside the original, its prompts are used and
its answers must come out. For developers: needs torch and transformers, and is not part of the test suite.
"""

import argparse
import json
import pathlib
import sys

import torch
import transformers


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                                    output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[key], f"{folder}: {key} {info[key]}"
    return model.eval()


def differing_settings(a, b):
    ignored = {"_name_or_path", "transformers_version", "initializer_range"}
    a, b = a.to_dict(), b.to_dict()
    return {k: (a.get(k), b.get(k)) for k in a.keys() | b.keys() if k not in ignored and a.get(k) != b.get(k)}


def greedy(model, prompt, count):
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                         do_sample=False, pad_token_id=0)
    return out[0, len(prompt):].tolist()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("original", type=pathlib.Path)
    parser.add_argument("exported", type=pathlib.Path)
    args = parser.parse_args()
    original, exported = load(args.original), load(args.exported)
    settings = differing_settings(original.config, exported.config)
    print(f"settings that differ: {settings or 'none'}")

    a, b = original.state_dict(), exported.state_dict()
    assert a.keys() == b.keys(), a.keys() ^ b.keys()
    unequal = [name for name in a if not torch.equal(a[name], b[name])]
    print(f"tensors: {len(a)}, unequal: {unequal or 'none'}")

    golden = args.original / "golden.json"
    if golden.exists():
        golden = json.loads(golden.read_text())
        prompts, answers = golden["prompts"], golden["answers"]
    else:
        generator = torch.Generator().manual_seed(1)
        prompts = [torch.randint(0, original.config.vocab_size, (n,), generator=generator).tolist() for n in (1, 7, 20)]
        answers = [greedy(original, p, 12) for p in prompts]
    texts = [greedy(exported, p, len(answer)) for p, answer in zip(prompts, answers)]
    print(f"greedy text equal: {texts == answers}")
    sys.exit(bool(unequal or texts != answers))


if __name__ == "__main__":
    main()
