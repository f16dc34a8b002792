"""PyTorch decoding with a static cache, compiled, at the shape of `tanren bench decode`: the peer of docs/benchmarks/gpu.md.

python3 pytorch_decode.py BATCH PROMPT ANSWER [eager]      Llama 1B's shape, random weights, greedy
"""
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache


def main():
    batch, prompt, answer = (int(x) for x in sys.argv[1:4])
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(LlamaConfig(
            vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
            num_key_value_heads=8, head_dim=64, max_position_embeddings=8192, rope_theta=500000.0,
            tie_word_embeddings=True, attn_implementation="sdpa")).eval()
    cache = StaticCache(config=model.config, max_cache_len=prompt + answer)
    ids = torch.randint(128256, (batch, prompt), device="cuda")

    def step(token, position):
        logits = model(input_ids=token, cache_position=position, past_key_values=cache, use_cache=True).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    fast = step if "eager" in sys.argv else torch.compile(step, mode="reduce-overhead", fullgraph=True)
    with torch.inference_mode():
        token = step(ids, torch.arange(prompt, device="cuda"))
        position = torch.tensor([prompt], device="cuda")
        for _ in range(4):
            token = fast(token, position).clone()
            position += 1
        torch.cuda.synchronize()
        begin = time.perf_counter()
        count = answer - 5
        for _ in range(count):
            token = fast(token, position).clone()
            position += 1
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - begin) / count
    print(f"pytorch {torch.__version__} llama1b batch {batch} prompt {prompt}: {seconds * 1e3:.3f} ms a step, "
          f"{batch / seconds:.0f} tokens/s", flush=True)


main()
