#!/usr/bin/env python3
"""Writes the golden files of this folder with PyTorch and transformers, in double precision.

    python make_golden.py [folder]        (needs torch, transformers, safetensors; no network)

For each family FAMILY/ holds a tiny random model as transformers saves it (config.json, model.safetensors in
float32), FAMILY/gradients/ its gradients in float64 under the same names, and FAMILY/golden.json and
FAMILY/logits.safetensors what the model computes. rotary.json holds transformers' rotary frequencies.

transformers computes RMSNorm and rotary angles in float32 whatever the model's type; here both are replaced by
the same formulas in float64, so that the numbers are good to 1e-12. Segments are run one by one, which is what a
packed row with restarting positions and a block-diagonal causal mask means.
"""

import json
import math
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

VOCAB = 61
Z_LOSS = 0.003
STEPS, WARMUP, PEAK, FINAL = 20, 3, 4e-3, 0.1
BETAS, EPSILON, DECAY, CLIP = (0.9, 0.95), 1e-8, 0.1, 1.0
# Segments of the two micro-batches of a step; positions restart in each.
SEGMENTS = [[11, 1, 17, 9], [23, 14]]
CAPACITY = 48

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def configs():
    common = dict(vocab_size=VOCAB, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    llama = dict(common, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
    yield "gpt2", transformers.GPT2Config(
        **common, n_positions=40, n_embd=28, n_layer=3, n_head=4, n_inner=52, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0)
    yield "llama", transformers.LlamaConfig(
        **llama, hidden_size=24, intermediate_size=36, rms_norm_eps=1e-5, rope_parameters=LLAMA3)
    yield "mistral", transformers.MistralConfig(
        **llama, hidden_size=24, intermediate_size=36, sliding_window=5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    yield "qwen2", transformers.Qwen2Config(
        **llama, hidden_size=24, intermediate_size=36, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
    yield "qwen3", transformers.Qwen3Config(
        **llama, hidden_size=20, intermediate_size=36, head_dim=8,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})


def frequencies(config):
    """Rotary frequencies in float64, from the published formulas."""
    rope = config.rope_parameters
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = [rope["rope_theta"] ** (-2.0 * i / dim) for i in range(dim // 2)]
    if rope["rope_type"] == "default":
        return plain
    assert rope["rope_type"] == "llama3"
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    context = rope["original_max_position_embeddings"]
    scaled = []
    for f in plain:
        turns = context * f / (2 * math.pi)
        blend = min(1.0, max(0.0, (turns - low) / (high - low)))
        scaled.append((1 - blend) * f / factor + blend * f)
    return scaled


def use_double(model, config):
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            def norm(x, module=module):
                return module.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon)
            module.forward = norm
        elif kind.endswith("RotaryEmbedding"):
            exact = torch.tensor(frequencies(config), dtype=torch.float64)
            assert torch.allclose(exact, module.inv_freq.double(), rtol=1e-5, atol=0), name

            def rotary(x, position_ids, *args, exact=exact, **kwargs):
                angle = position_ids[:, :, None].double() * exact
                angle = torch.cat((angle, angle), dim=-1)
                return angle.cos(), angle.sin()
            module.forward = rotary


def randomise(model, generator):
    """Weights that use the whole range of the softmax, norms off 1 and biases off 0."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        if p.dim() == 2:
            value = noise * (0.35 if "embed" in name or "wte" in name or "wpe" in name else 0.9 / math.sqrt(p.shape[1]))
        elif name.endswith("bias"):
            value = 0.1 * noise
        else:
            value = 1 + 0.1 * noise
        p.data = value.float().double()  # exactly what the float32 file holds


def make_batch(generator):
    batches = []
    for lengths in SEGMENTS:
        segments = []
        for length in lengths:
            row = torch.randint(0, VOCAB, (length + 1,), generator=generator).tolist()
            mask = (torch.rand(length, generator=generator) < 0.8).int().tolist()
            segments.append({"ids": row[:-1], "targets": row[1:], "mask": mask})
        batches.append(segments)
    return batches


def step_loss(model, batches):
    trained = sum(sum(s["mask"]) for b in batches for s in b)
    cross_entropy, z = 0, 0
    for segment in (s for b in batches for s in b):
        logits = model(torch.tensor([segment["ids"]])).logits[0]
        lse = torch.logsumexp(logits, -1)
        logp = logits.gather(1, torch.tensor(segment["targets"])[:, None])[:, 0] - lse
        mask = torch.tensor(segment["mask"], dtype=torch.float64)
        cross_entropy = cross_entropy - (logp * mask).sum() / trained
        z = z + (lse * lse * mask).sum() / trained
    return cross_entropy + Z_LOSS * z, cross_entropy


def learning_rate(step):
    if step < WARMUP:
        return PEAK * step / WARMUP
    t = (step - WARMUP) / (STEPS - WARMUP)
    return PEAK * (FINAL + (1 - FINAL) * (1 + math.cos(math.pi * t)) / 2)


def greedy(model, prompt, count):
    ids, margin = list(prompt), math.inf
    for _ in range(count):
        logits = model(torch.tensor([ids])).logits[0, -1]
        top = torch.topk(logits, 2)
        margin = min(margin, (top.values[0] - top.values[1]).item())
        ids.append(top.indices[0].item())
    assert margin > 1e-3, f"two tokens are nearly equal ({margin}); choose another prompt"
    return ids[len(prompt):]


def train(model, batches):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
                                  lr=PEAK, betas=BETAS, eps=EPSILON)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss, _ = step_loss(model, batches)
        loss.backward()
        norm = math.sqrt(sum(p.grad.pow(2).sum().item() for p in model.parameters()))
        if norm > CLIP:
            for p in model.parameters():
                p.grad *= CLIP / norm
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
    return losses, norms


def make_family(folder, name, config):
    generator = torch.Generator().manual_seed(20_240_000 + len(name))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float64)
    model.eval()
    randomise(model, generator)
    shutil.rmtree(folder, ignore_errors=True)
    model.float().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model.double()
    use_double(model, model.config)

    batches = make_batch(generator)
    with torch.no_grad():
        logits = torch.cat([model(torch.tensor([s["ids"]])).logits[0] for s in batches[0]])
        prompts = [torch.randint(0, VOCAB, (n,), generator=generator).tolist() for n in (1, 7, 20)]
        answers = [greedy(model, p, 12) for p in prompts]
    save_file({"logits": logits.contiguous()}, folder / "logits.safetensors")

    loss, cross_entropy = step_loss(model, batches)
    loss.backward()
    gradients = {n: p.grad.contiguous() for n, p in model.named_parameters()}
    (folder / "gradients").mkdir()
    save_file(gradients, folder / "gradients" / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(folder / "config.json", folder / "gradients" / "config.json")
    model.zero_grad()
    losses, norms = train(model, batches)
    golden = {
        "capacity": CAPACITY, "z_loss": Z_LOSS, "batches": batches,
        "loss": loss.item(), "cross_entropy": cross_entropy.item(),
        "steps": STEPS, "warmup": WARMUP, "peak": PEAK, "final": FINAL, "decay": DECAY, "clip": CLIP,
        "losses": losses, "norms": norms, "prompts": prompts, "answers": answers,
    }
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, loss {loss.item():.6f} -> {losses[-1]:.6f}")


def make_rotary(path):
    """transformers' own frequencies (float32), for every kind of scaling."""
    cases = []
    kinds = [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096, "beta_fast": 24.0,
         "beta_slow": 2.0},
    ]
    for rope in kinds:
        rope = dict(rope, rope_theta=500000.0)
        config = transformers.LlamaConfig(hidden_size=512, num_attention_heads=4, num_hidden_layers=1,
                                          num_key_value_heads=2, intermediate_size=8, vocab_size=VOCAB,
                                          max_position_embeddings=131072, rope_parameters=dict(rope))
        rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
        text = json.loads(config.to_json_string())
        cases.append({"config": text, "inv_freq": rotary.inv_freq.tolist(), "scaling": rotary.attention_scaling})
    path.write_text(json.dumps(cases) + "\n")


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    for name, config in configs():
        make_family(folder / name, name, config)
    make_rotary(folder / "rotary.json")


if __name__ == "__main__":
    main()
