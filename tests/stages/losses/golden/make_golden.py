#!/usr/bin/env python3
"""Losses and gradients of fixed random rollouts by PyTorch autograd in float64: golden.json beside this file.

The formulas are written here from the papers, apart from the C++ ones, with torch's own functions (logsigmoid,
clamp, max, logsumexp). Needs torch only:  python3 make_golden.py
"""
import json
import math
import os

import torch
from torch.nn.functional import logsigmoid

torch.manual_seed(20)
torch.set_default_dtype(torch.float64)
UNITS = 6


def pairs():
    tokens = torch.randint(1, 15, (UNITS, 2)).double()
    policy = -tokens * (0.3 + 2 * torch.rand(UNITS, 2))
    reference = policy + 6 * torch.randn(UNITS, 2)
    return policy, reference, tokens


def record(name, options, inputs, loss, leaves):
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    out = {"loss": name, "options": options, "value": loss.item()}
    out.update({key: value.tolist() for key, value in inputs.items()})
    out["gradients"] = [torch.zeros_like(leaf).tolist() if g is None else g.tolist()
                        for leaf, g in zip(leaves, gradients)]
    return out


def pair_case(name, options, function):
    policy, reference, tokens = pairs()
    policy.requires_grad_(True)
    loss = function(policy, reference, tokens).mean()
    return record(name, options, {"policy": policy, "reference": reference, "tokens": tokens}, loss, [policy])


def delta(policy, reference):
    d = policy - reference
    return d[:, 0] - d[:, 1]


def dpo(beta, s):
    return lambda p, r, t: (-(1 - s) * logsigmoid(beta * delta(p, r)) - s * logsigmoid(-beta * delta(p, r)))


def robust(beta, s):
    return lambda p, r, t: (-(1 - s) * logsigmoid(beta * delta(p, r))
                            + s * logsigmoid(-beta * delta(p, r))) / (1 - 2 * s)


def ipo(beta, mean):
    return lambda p, r, t: (delta(p / t, r / t) if mean else delta(p, r)).sub(1 / (2 * beta)).square()


def simpo(beta, gamma):
    return lambda p, r, t: -logsigmoid(beta * ((p / t)[:, 0] - (p / t)[:, 1]) - gamma)


def orpo(lam):
    def loss(p, r, t):
        m = p / t
        odds = m - torch.log(1 - torch.exp(m))
        return -m[:, 0] - lam * logsigmoid(odds[:, 0] - odds[:, 1])
    return loss


def kto_case(beta, good, bad):
    policy, reference, tokens = pairs()
    policy, reference, tokens = policy[:, :1], reference[:, :1], tokens[:, :1]
    policy.requires_grad_(True)
    label = torch.tensor([1.0, 0, 1, 1, 0, 0])
    z0 = 0.7
    d = (policy - reference)[:, 0]
    desirable = good * (1 - torch.sigmoid(beta * (d - z0)))
    undesirable = bad * (1 - torch.sigmoid(beta * (z0 - d)))
    loss = torch.where(label > 0, desirable, undesirable).mean()
    return record("kto", [beta, good, bad, z0],
                  {"policy": policy, "reference": reference, "tokens": tokens, "label": label}, loss, [policy])


def policy_case(low, high, dual, kl, estimator, entropy_coefficient):
    n = 40
    logp = -2 * torch.rand(n) - 0.1
    old, reference = logp + 0.4 * torch.randn(n), logp + 0.7 * torch.randn(n)
    advantage, weight, entropy = torch.randn(n), torch.rand(n) + 0.2, 2 * torch.rand(n)
    logp.requires_grad_(True)
    entropy.requires_grad_(True)
    ratio = torch.exp(logp - old)
    term = torch.max(-advantage * ratio, -advantage * ratio.clamp(1 - low, 1 + high))
    if dual > 0:
        term = torch.where(advantage < 0, torch.min(term, -advantage * dual), term)
    d = logp - reference
    estimate = {"k2": d.square() / 2, "k3": torch.exp(-d) - 1 + d}[estimator]
    loss = ((term + kl * estimate - entropy_coefficient * entropy) * weight).sum() / weight.sum()
    return record("policy", [low, high, dual, kl, entropy_coefficient, estimator == "k3"],
                  {"logp": logp, "old": old, "reference_logp": reference, "advantage": advantage, "weight": weight,
                   "entropy": entropy}, loss, [logp, entropy])


def gspo_case(low, high):
    tokens = torch.randint(1, 20, (UNITS,)).double()
    policy = -tokens * (0.3 + torch.rand(UNITS))
    old = policy + tokens * 4e-4 * torch.randn(UNITS)
    advantage = torch.randn(UNITS)
    policy.requires_grad_(True)
    ratio = torch.exp((policy - old) / tokens)
    loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(1 - low, 1 + high)).mean()
    return record("gspo", [low, high], {"policy": policy, "old": old, "tokens": tokens, "advantage": advantage}, loss,
                  [policy])


def value_case(clip):
    n = 40
    value, old, target = torch.randn(n), torch.randn(n), torch.randn(n)
    weight = torch.rand(n) + 0.2
    value.requires_grad_(True)
    free = (value - target).square()
    bounded = (old + (value - old).clamp(-clip, clip) - target).square() if clip > 0 else free
    loss = (0.5 * torch.max(free, bounded) * weight).sum() / weight.sum()
    return record("value", [clip], {"values": value, "old": old, "target": target, "weight": weight}, loss, [value])


def reward_case(name, centering, likelihood=None):
    ranks = torch.tensor([[1, 2, 3, 4], [1, 1, 2, 3], [2, 1, 2, 1], [1, 2, 2, 2], [4, 3, 2, 1], [1, 2, 1, 3]])
    margin = torch.rand(UNITS, 4)
    score = 2 * torch.randn(UNITS, 4)
    score.requires_grad_(True)
    inputs, logp, tokens = [score], torch.zeros(UNITS, 4), torch.ones(UNITS, 4)
    if likelihood:
        tokens = torch.randint(1, 30, (UNITS, 4)).double()
        logp = (-tokens * (0.1 + torch.rand(UNITS, 4))).requires_grad_(True)
        inputs.append(logp)
    weight, mean = likelihood or (0, False)
    scores = score + weight * (logp / tokens if mean else logp)
    total = 0
    for r, m, s, v in zip(ranks.tolist(), margin, scores, score):
        if name == "pairwise":
            terms = [-logsigmoid(s[i] - s[j] - m[i]) + centering * (v[i] + v[j]) ** 2
                     for i in range(4) for j in range(4) if r[i] < r[j]]
        else:
            terms = [torch.logsumexp(s[torch.tensor(r) >= r[i]], 0) - s[i] + centering * v[i] ** 2 for i in range(4)]
        total = total + sum(terms) / len(terms)
    loss = total / UNITS
    return record(name, [centering, weight, mean],
                  {"rank": ranks.double(), "margin": margin, "score": score, "logp": logp, "tokens": tokens}, loss, inputs)


cases = [
    pair_case("dpo", [0.1, 0.0], dpo(0.1, 0.0)),
    pair_case("dpo", [0.3, 0.1], dpo(0.3, 0.1)),
    pair_case("robust", [0.2, 0.1], robust(0.2, 0.1)),
    pair_case("ipo", [0.1, 1], ipo(0.1, True)),
    pair_case("ipo", [0.1, 0], ipo(0.1, False)),
    pair_case("simpo", [2.0, 0.5], simpo(2.0, 0.5)),
    pair_case("orpo", [0.1], orpo(0.1)),
    kto_case(0.1, 1.0, 1.3),
    policy_case(0.2, 0.2, 0, 0.05, "k3", 0.01),
    policy_case(0.2, 0.28, 3, 0.1, "k2", 0.0),
    gspo_case(3e-4, 4e-4),
    value_case(0.2),
    value_case(0.0),
    reward_case("pairwise", 0.01),
    reward_case("listwise", 0.0),
    reward_case("pairwise", 0.02, (0.3, False)),
    reward_case("listwise", 0.02, (0.3, False)),
    reward_case("pairwise", 0.01, (4, True)),
    reward_case("listwise", 0.0, (4, True)),
]
assert all(math.isfinite(case["value"]) for case in cases)
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden.json"), "w") as out:
    json.dump({"torch": torch.__version__, "cases": cases}, out, separators=(",", ":"))
    out.write("\n")
