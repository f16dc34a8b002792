"""A training step of PyTorch with torch.compile at the shapes of `tanren bench step`: the peer of docs/benchmarks/gpu.md.

python3 pytorch_step.py gpt2|llama1b MICRO_BATCH_TOKENS SEQUENCE MICRO_BATCHES [eager]

fp32 weights under bf16 autocast, fused AdamW, gradient clipping, causal SDPA, loss over the full vocabulary.
"""
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM


def make(name):
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, attn_implementation="sdpa"))
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, max_position_embeddings=8192, rope_theta=500000.0,
        tie_word_embeddings=True, attn_implementation="sdpa"))


def main():
    name, tokens, length, micro_batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(1)
    with torch.device("cuda"):
        model = make(name)
    model.config.use_cache = False
    vocab = model.config.vocab_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def loss_of(ids, targets):
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(input_ids=ids).logits
            return torch.nn.functional.cross_entropy(logits.view(-1, vocab), targets.view(-1))

    step_loss = loss_of if "eager" in sys.argv else torch.compile(loss_of)
    batches = [(torch.randint(vocab, (tokens // length, length), device="cuda"),
                torch.randint(vocab, (tokens // length, length), device="cuda")) for _ in range(micro_batches)]

    def step():
        for ids, targets in batches:
            (step_loss(ids, targets) / micro_batches).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    seconds = []
    for _ in range(10):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    median = sorted(seconds)[5]
    print(f"pytorch {torch.__version__} {name} {micro_batches} x {tokens} tokens, sequences of {length}: "
          f"{median * 1e3:.2f} ms, {micro_batches * tokens / median:.0f} tokens/s, "
          f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB", flush=True)


main()
