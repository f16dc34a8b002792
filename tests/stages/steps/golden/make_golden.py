#!/usr/bin/env python3
"""Whole optimizer steps of each stage's losses by PyTorch in float64, through a tiny random GPT-2 of transformers.

    python3 make_golden.py [folder]        (needs torch, transformers, safetensors; no network)

policy/ and reference/ hold two models as transformers saves them; CASE/ the gradients of CASE's first step under the
same names (float64 rounded to float32); golden.json the fixed sequences, what each case learns from, and the loss and
the gradient norm of STEPS steps of AdamW. A reward model and a critic are the reference's body with the vector
`score` on the last hidden states.

The formulas are those that TRL's trainers document, written here from the papers with torch's own functions.
"""
import json
import math
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file
from torch.nn.functional import logsigmoid

VOCABULARY, WIDTH = 13, 8
STEPS, RATE, BETAS, EPSILON, DECAY, CLIP = 3, 1e-2, (0.9, 0.95), 1e-8, 0.1, 1.0
BETA = 0.5  # of DPO and KTO
KL, LAMBDA, VALUE_CLIP, ENTROPY, TEMPERATURE = 0.05, 0.95, 0.2, 0.02, 0.8
SMOOTHING, SIMPO_BETA, SIMPO_GAMMA, ORPO_LAMBDA, DUAL_CLIP = 0.1, 2.0, 0.5, 0.1, 3.0
IPO_BETA = 0.1  # a target that three steps do not come near: where the square vanishes so do a gradient's digits

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
generator = torch.Generator().manual_seed(20)


def draw(*shape):
    return torch.randn(*shape, generator=generator)


def make_model():
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=24, n_embd=WIDTH, n_layer=2, n_head=2, n_inner=16, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").double().eval()
    for name, p in model.named_parameters():
        noise = draw(*p.shape)
        value = noise * (0.5 if p.dim() == 2 else 0.1) + (1 if "ln_" in name and name.endswith("weight") else 0)
        p.data = value.float().double()  # exactly what the file holds
    return model


def make_sequences(count):
    """Prompt and answer; the answer's last token is its end of turn."""
    out = []
    for _ in range(count):
        prompt, answer = (int(torch.randint(2, 6, (), generator=generator)) for _ in range(2))
        ids = torch.randint(0, VOCABULARY - 1, (prompt + answer - 1,), generator=generator).tolist()
        out.append({"ids": ids + [VOCABULARY - 1], "prompt": prompt})
    return out


def logits_of(model, sequence):
    return model(torch.tensor([sequence["ids"]])).logits[0]


def answer_logp(model, sequence, temperature=1.0):
    """Log-probability and entropy of each of the answer's tokens."""
    p = sequence["prompt"]
    logp = torch.log_softmax(logits_of(model, sequence)[p - 1:-1] / temperature, -1)
    target = torch.tensor(sequence["ids"][p:])
    return logp.gather(1, target[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def hidden(model, sequence):
    return model.transformer(torch.tensor([sequence["ids"]])).last_hidden_state[0]


def end_score(model, score, sequence):
    return hidden(model, sequence)[-1] @ score


def values_of(model, score, sequence):
    """Before each token of the answer, and after the last."""
    return hidden(model, sequence)[sequence["prompt"] - 1:] @ score


def frozen(function, *arguments):
    with torch.no_grad():
        return function(*arguments)


def sft(model, data, sequences, reference):
    total = weight = 0
    for unit in data["units"]:
        for s in unit:
            logp, _ = answer_logp(model, sequences[s])
            total = total - logp.sum() / len(unit)
            weight += len(logp) / len(unit)
    return total / weight


def log_ratio(model, reference, sequence):
    return answer_logp(model, sequence)[0].sum() - frozen(answer_logp, reference, sequence)[0].sum()


def dpo(model, data, sequences, reference):
    losses = []
    for chosen, rejected in data["units"]:
        delta = log_ratio(model, reference, sequences[chosen]) - log_ratio(model, reference, sequences[rejected])
        losses.append(-logsigmoid(BETA * delta))
    return torch.stack(losses).mean()


def robust(model, data, sequences, reference):
    losses = []
    for chosen, rejected in data["units"]:
        x = BETA * (log_ratio(model, reference, sequences[chosen]) - log_ratio(model, reference, sequences[rejected]))
        losses.append((-(1 - SMOOTHING) * logsigmoid(x) + SMOOTHING * logsigmoid(-x)) / (1 - 2 * SMOOTHING))
    return torch.stack(losses).mean()


def ipo(mean):
    def case(model, data, sequences, reference):
        losses = []
        for pair in data["units"]:
            d = []
            for s in pair:
                tokens = len(sequences[s]["ids"]) - sequences[s]["prompt"]
                d.append(log_ratio(model, reference, sequences[s]) / (tokens if mean else 1))
            losses.append((d[0] - d[1] - 1 / (2 * IPO_BETA)).square())
        return torch.stack(losses).mean()
    return case


def simpo(model, data, sequences, reference):
    losses = []
    for chosen, rejected in data["units"]:
        means = [answer_logp(model, sequences[s])[0].mean() for s in (chosen, rejected)]
        losses.append(-logsigmoid(SIMPO_BETA * (means[0] - means[1]) - SIMPO_GAMMA))
    return torch.stack(losses).mean()


def orpo(model, data, sequences, reference):
    """An answer's probability is the geometric mean of its tokens'; its odds p / (1 - p)."""
    losses = []
    for chosen, rejected in data["units"]:
        means = [answer_logp(model, sequences[s])[0].mean() for s in (chosen, rejected)]
        odds = [torch.log(m.exp() / (1 - m.exp())) for m in means]
        losses.append(-means[0] - ORPO_LAMBDA * logsigmoid(odds[0] - odds[1]))
    return torch.stack(losses).mean()


def mismatched_kl(model, data, sequences, reference):
    """Each prompt with the answer of the next example."""
    ratios = []
    for i, s in enumerate(data["units"]):
        prompt, answer = sequences[s], sequences[data["units"][(i + 1) % len(data["units"])]]
        mixed = {"ids": prompt["ids"][:prompt["prompt"]] + answer["ids"][answer["prompt"]:], "prompt": prompt["prompt"]}
        ratios.append(frozen(log_ratio, model, reference, mixed))
    return torch.stack(ratios).mean().clamp(min=0)


def kto(model, data, sequences, reference):
    z0 = mismatched_kl(model, data, sequences, reference)
    losses = []
    for s, good in zip(data["units"], data["labels"]):
        d = log_ratio(model, reference, sequences[s])
        losses.append(1 - torch.sigmoid(BETA * (d - z0) if good else BETA * (z0 - d)))
    return torch.stack(losses).mean()


def pairwise(model, data, sequences, reference):
    losses = []
    for unit, ranks, margin in zip(data["units"], data["ranks"], data["margins"]):
        r = [end_score(model, model.score_weight[0], sequences[s]) for s in unit]
        terms = [-logsigmoid(r[i] - r[j] - margin) + data["centering"] * (r[i] + r[j]).square()
                 for i in range(len(r)) for j in range(len(r)) if ranks[i] < ranks[j]]
        losses.append(torch.stack(terms).mean())
    return torch.stack(losses).mean()


def listwise(model, data, sequences, reference):
    losses = []
    for unit, ranks in zip(data["units"], data["ranks"]):
        r = torch.stack([end_score(model, model.score_weight[0], sequences[s]) for s in unit])
        terms = [torch.logsumexp(r[torch.tensor(ranks) >= ranks[i]], 0) - r[i] + data["centering"] * r[i].square()
                 for i in range(len(unit))]
        losses.append(torch.stack(terms).mean())
    return torch.stack(losses).mean()


def advantages_and_returns(data, sequences, reference):
    """GAE over rewards with the KL in them, by the definition: a sum of discounted temporal differences."""
    advantages, returns = [], []
    for i, s in enumerate(data["units"]):
        old = torch.tensor(data["old_logp"][i])
        rewards = -KL * (old - frozen(answer_logp, reference, sequences[s])[0])
        rewards[-1] += data["rewards"][i]
        values = torch.tensor(data["old_values"][i])
        if data["ended"][i]:
            values = torch.cat([values[:-1], torch.zeros(1)])
        delta = rewards + values[1:] - values[:-1]
        n = len(delta)
        a = torch.stack([sum(LAMBDA ** (u - t) * delta[u] for u in range(t, n)) for t in range(n)])
        advantages.append(a)
        returns.append(a + values[:-1])
    flat = torch.cat(advantages)
    mean, deviation = flat.mean(), flat.var(unbiased=False).sqrt()
    return [(a - mean) / deviation for a in advantages], returns


def clipped(ratio, advantage, low=0.2, high=0.2):
    return torch.max(-advantage * ratio, -advantage * ratio.clamp(1 - low, 1 + high))


def ppo(model, data, sequences, reference):
    advantages, _ = advantages_and_returns(data, sequences, reference)
    terms = []
    for i, s in enumerate(data["units"]):
        logp, entropy = answer_logp(model, sequences[s])
        ratio = torch.exp(logp - torch.tensor(data["old_logp"][i]))
        terms.append(clipped(ratio, advantages[i]) - ENTROPY * entropy)
    return torch.cat(terms).mean()


def value(model, data, sequences, reference):
    _, returns = advantages_and_returns(data, sequences, reference)
    terms = []
    for i, s in enumerate(data["units"]):
        v, old = values_of(model, model.score_weight[0], sequences[s])[:-1], torch.tensor(data["old_values"][i])[:-1]
        near = old + (v - old).clamp(-VALUE_CLIP, VALUE_CLIP)
        terms.append(0.5 * torch.max((v - returns[i]).square(), (near - returns[i]).square()))
    return torch.cat(terms).mean()


def grpo(model, data, sequences, reference):
    """Mean over answers of their tokens' mean, as in the paper, with k3 in the loss."""
    terms = []
    for i, s in enumerate(data["units"]):
        group = torch.tensor(data["rewards"][i // 4 * 4:i // 4 * 4 + 4])
        advantage = (data["rewards"][i] - group.mean()) / (group.std(unbiased=True) + 1e-4)
        logp, _ = answer_logp(model, sequences[s], TEMPERATURE)
        ratio = torch.exp(logp - torch.tensor(data["old_logp"][i]))
        d = logp - frozen(answer_logp, reference, sequences[s], TEMPERATURE)[0]
        terms.append((clipped(ratio, advantage) + KL * (torch.exp(-d) - 1 + d)).mean())
    return torch.stack(terms).mean()


def answers(model, data, sequences, advantages, temperature):
    """Of each answer: its index, advantage, log-probabilities, entropies and log-ratios to the rollout."""
    for i, s in enumerate(data["units"]):
        logp, entropy = answer_logp(model, sequences[s], temperature)
        yield s, advantages[i], logp, entropy, logp - torch.tensor(data["old_logp"][i])


def group_advantages(data):
    rewards = torch.tensor(data["rewards"]).view(-1, 4)
    return ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, unbiased=True, keepdim=True) + 1e-4)).flatten()


def gspo(model, data, sequences, reference):
    """The ratio of an answer is the geometric mean of its tokens'."""
    terms = [clipped(torch.exp(log_ratio.mean()), advantage, 3e-4, 4e-4)
             for _, advantage, _, _, log_ratio in answers(model, data, sequences, group_advantages(data), TEMPERATURE)]
    return torch.stack(terms).mean()


def rloo(model, data, sequences, reference):
    """The answer's reward with the KL to the reference in it, less the mean of the others in the group."""
    totals = torch.stack([r - KL * (torch.tensor(old) - frozen(answer_logp, reference, sequences[s])[0]).sum()
                          for s, r, old in zip(data["units"], data["rewards"], data["old_logp"])])
    groups = totals.view(-1, 4)
    advantages = (groups - (groups.sum(1, keepdim=True) - groups) / 3).flatten()
    terms = [clipped(log_ratio.exp(), advantage)
             for _, advantage, _, _, log_ratio in answers(model, data, sequences, advantages, 1.0)]
    return torch.cat(terms).mean()


def dapo(model, data, sequences, reference):
    terms = [clipped(log_ratio.exp(), advantage, 0.2, 0.28)
             for _, advantage, _, _, log_ratio in answers(model, data, sequences, group_advantages(data), TEMPERATURE)]
    return torch.cat(terms).mean()


def grpo_k2_entropy(model, data, sequences, reference):
    terms = []
    for s, advantage, logp, entropy, log_ratio in answers(model, data, sequences, group_advantages(data), TEMPERATURE):
        d = logp - frozen(answer_logp, reference, sequences[s], TEMPERATURE)[0]
        terms.append(clipped(log_ratio.exp(), advantage) + KL * d.square() / 2 - ENTROPY * entropy)
    return torch.cat(terms).mean()


def dual_clip(model, data, sequences, reference):
    terms = []
    for _, advantage, _, _, log_ratio in answers(model, data, sequences, group_advantages(data), 1.0):
        loss = clipped(log_ratio.exp(), advantage)
        terms.append(loss.clamp(max=-DUAL_CLIP * advantage) if advantage < 0 else loss)
    return torch.cat(terms).mean()


def train(model, case, data, sequences, reference):
    """Gradients of the first step, and losses and norms of all."""
    named = [(n, p) for n, p in model.named_parameters()]
    optimizer = torch.optim.AdamW([{"params": [p for _, p in named if p.dim() == 2], "weight_decay": DECAY},
                                   {"params": [p for _, p in named if p.dim() != 2], "weight_decay": 0.0}],
                                  lr=RATE, betas=BETAS, eps=EPSILON)
    first, losses, norms = None, [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = case(model, data, sequences, reference)
        loss.backward()
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in named}
        first = first or gradients
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients.values()))
        for _, p in named:
            p.grad = p.grad * min(1.0, CLIP / norm) if p.grad is not None else None
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
    return first, losses, norms


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    models = {"policy": make_model(), "reference": make_model()}
    score = (0.4 * draw(WIDTH)).float().double()
    for name, model in models.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        model.float().save_pretrained(folder / name)
        (folder / name / "generation_config.json").unlink(missing_ok=True)
        model.double()
    policy, reference = models["policy"], models["reference"]
    sequences = make_sequences(8)

    # A rollout that some policy near the reference sampled.
    def rollout(units, temperature):
        old = [frozen(answer_logp, reference, sequences[s], temperature)[0] for s in units]
        return [(o + 0.2 * draw(len(o))).clamp(max=-0.01).tolist() for o in old]
    old_values = [frozen(values_of, reference, score, sequences[s]) for s in range(5)]
    ppo_data = {"units": [0, 1, 2, 3, 4], "rewards": [1.0, 0.0, -0.5, 2.0, 1.0], "ended": [1, 1, 0, 1, 0],
                "old_logp": rollout(range(5), 1.0), "old_values": [(v + 0.3 * draw(len(v))).tolist() for v in old_values]}
    rankings = {"units": [[0, 1, 2], [3, 4], [5, 6, 7]], "ranks": [[2, 1, 2], [1, 2], [3, 1, 2]],
                "margins": [0.0, 0.7, 0.2], "centering": 0.01}
    cases = {
        "sft": (sft, {"units": [[0], [1, 2], [3]]}),
        "dpo": (dpo, {"units": [[0, 1], [2, 3], [4, 5]]}),
        "kto": (kto, {"units": [0, 1, 2, 3, 4], "labels": [1, 0, 1, 1, 0]}),
        "pairwise": (pairwise, rankings),
        "listwise": (listwise, rankings),
        "ppo": (ppo, ppo_data),
        "value": (value, ppo_data),
        "grpo": (grpo, {"units": list(range(8)), "rewards": [1.0, 0.0, 0.0, 1.0, 0.5, 2.0, -1.0, 0.0],
                        "old_logp": rollout(range(8), TEMPERATURE)}),
    }
    # Drawn after those above, whose numbers they leave alone.
    pairs, grouped = cases["dpo"][1], dict(cases["grpo"][1])
    at_one = dict(grouped, old_logp=rollout(range(8), 1.0))
    # Every other token was far less likely when sampled: ratios beyond the dual clip.
    stale = dict(at_one, old_logp=[[o - 2 * (t % 2) for t, o in enumerate(old)] for old in at_one["old_logp"]])
    cases.update({
        "robust": (robust, pairs), "ipo_mean": (ipo(True), pairs), "ipo_sum": (ipo(False), pairs),
        "simpo": (simpo, pairs), "orpo": (orpo, pairs), "gspo": (gspo, grouped), "rloo": (rloo, at_one),
        "dapo": (dapo, grouped), "grpo_k2_entropy": (grpo_k2_entropy, grouped), "dual_clip": (dual_clip, stale),
    })
    scored = ("pairwise", "listwise", "value")
    golden = {"sequences": sequences, "score": score.tolist(), "cases": {}}
    for name, (function, data) in cases.items():
        model = make_model()
        model.load_state_dict((reference if name in scored else policy).state_dict())
        if name in scored:
            # [1, width], as in transformers' models for sequence classification.
            model.register_parameter("score_weight", torch.nn.Parameter(score[None].clone()))
        gradients, losses, norms = train(model, function, data, sequences, reference)
        golden["cases"][name] = dict(data, losses=losses, norms=norms)
        if name in scored:
            golden["cases"][name]["score_gradient"] = gradients.pop("score_weight")[0].tolist()
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        save_file({n: g.float().contiguous() for n, g in gradients.items()}, target / "model.safetensors",
                  metadata={"format": "pt"})
        shutil.copy(folder / "policy" / "config.json", target / "config.json")
        print(f"{name}: loss {losses[0]:.6f} -> {losses[-1]:.6f}, norm {norms[0]:.4f}")
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
