"""transformers' generate on the CPU, greedy, with weights that `tanren ckpt export-hf` wrote: the peer of
docs/benchmarks/post_training_costs.md.

python3 pytorch_generate.py DIRECTORY THREADS time BATCH PROMPT ANSWER     seconds until the first token, and of all
python3 pytorch_generate.py DIRECTORY THREADS check FILE                   are the greedy answers of FILE those of PyTorch?

FILE has a JSON record a line: "prompt" and "tokens", both token ids. fp32, key-value cache, no padding: all prompts of a
batch are of one length, and none ends early.
"""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def generate(model, ids, tokens):
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
                          do_sample=False, pad_token_id=0)[:, ids.shape[1]:]


def measure(model, batch, prompt, answer):
    ids = torch.randint(model.config.vocab_size, (batch, prompt), generator=torch.Generator().manual_seed(5))
    generate(model, ids, 2)

    def seconds(tokens):
        begin, begin_processor = time.perf_counter(), time.process_time()
        assert generate(model, ids, tokens).shape[1] == tokens
        return time.perf_counter() - begin, time.process_time() - begin_processor

    (first, first_processor), (everything, everything_processor) = seconds(1), seconds(answer)
    step = (everything - first) / (answer - 1)
    processor = (everything_processor - first_processor) / (answer - 1)
    print(f"pytorch {torch.__version__} batch {batch}, prompt {prompt}: first token after {first * 1e3:.2f} ms; "
          f"{step * 1e3:.3f} ms a step, {processor * 1e3:.3f} ms of processor time, {batch / step:.0f} tokens/s",
          flush=True)


def check(model, path):
    records = [json.loads(line) for line in open(path)]
    equal = 0
    for record in records:
        ids = torch.tensor([record["prompt"]])
        equal += generate(model, ids, len(record["tokens"]))[0].tolist() == record["tokens"]
    print(f"pytorch {torch.__version__}: {equal} of {len(records)} greedy answers are the same token for token")
    sys.exit(equal != len(records))


def main():
    torch.set_num_threads(int(sys.argv[2]))
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    # No end: a time is that of as many tokens as asked for.
    model.generation_config.eos_token_id = None
    with torch.inference_mode():
        if sys.argv[3] == "check":
            check(model, sys.argv[4])
        measure(model, *(int(x) for x in sys.argv[4:7]))


main()
