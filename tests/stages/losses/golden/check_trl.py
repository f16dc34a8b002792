#!/usr/bin/env python3
"""The values of golden.json beside this file against TRL's own losses on the same sequences.

TRL computes its losses inside its trainers' methods, from a model's log-probabilities: here a stand-in for the model
gives those of golden.json, spread over the tokens of each answer. Needs torch and trl (checked with 1.16.0):

    python3 check_trl.py
"""
import collections
import contextlib
import json
import os
import types

import torch
import trl
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer

LIMIT = 1e-5


class Same:
    """An accelerator of one process."""

    device = torch.device("cpu")

    def __getattr__(self, name):
        return lambda tensor, *rest, **named: tensor


def masks(tokens):
    """Completion masks [answers, 1 + longest]; position 0 is the prompt."""
    longest = int(tokens.max())
    return (torch.arange(longest + 1)[None, :] <= tokens[:, None]).long() * (torch.arange(longest + 1) > 0).long()


def spread(logp, tokens):
    """Per-token log-probabilities [answers, longest] whose sums are logp."""
    mask = masks(tokens)[:, 1:].double()
    return mask * (logp / tokens)[:, None]


class Outputs:
    """A model's: log-probabilities, and zeros for what is only logged."""

    def __init__(self, log_probs):
        self.log_probs = log_probs

    def __getattr__(self, name):
        zeros = torch.zeros_like(self.log_probs)
        return zeros.bool() if name.startswith("is_") else zeros


class Stand(types.SimpleNamespace):
    """A trainer's or a model's self: what is not given is off."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def dpo(case, loss_type, beta, smoothing):
    policy, reference, tokens = (torch.tensor(case[key]) for key in ("policy", "reference", "tokens"))
    together = lambda pairs: torch.cat([pairs[:, 0], pairs[:, 1]])
    counts = together(tokens)
    log_probs = spread(together(policy), counts)
    mask = masks(counts)
    trainer = Stand(
        model=Stand(training=False), accelerator=Same(), loss_types=[loss_type], loss_weights=[1.0], beta=beta,
        label_smoothing=smoothing, f_divergence_type="reverse_kl", precompute_ref_logps=True,
        _metrics={"eval": collections.defaultdict(list), "train": collections.defaultdict(list)}, _total_train_tokens=0)
    inputs = {"input_ids": torch.ones_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask,
              "ref_chosen_logps": reference[:, 0], "ref_rejected_logps": reference[:, 1]}
    return DPOTrainer._compute_loss(trainer, lambda **given: Outputs(log_probs), inputs, False).item()


def simpo(case):
    beta, gamma = case["options"][:2]
    policy, tokens = torch.tensor(case["policy"]), torch.tensor(case["tokens"])
    trainer = Stand(alpha=0.0, beta=beta, simpo_gamma=gamma, label_smoothing=0.0, loss_type="simpo", accelerator=Same())
    mean = policy / tokens
    return CPOTrainer.cpo_loss(trainer, mean[:, 0], mean[:, 1])[0].mean().item()


def orpo(case):
    weight = case["options"][0]
    mean = torch.tensor(case["policy"]) / torch.tensor(case["tokens"])
    trainer = Stand(beta=weight, accelerator=Same())
    odds = ORPOTrainer.odds_ratio_loss(trainer, mean[:, 0], mean[:, 1])[0]
    # TRL's NLL is the mean over all tokens of the batch; here every answer counts once (docs/numerics.md), so only the
    # odds ratio term is TRL's.
    return (-mean[:, 0] - odds).mean().item()


def kto(case):
    beta, good, bad, z0 = case["options"]
    policy, reference, tokens, label = (torch.tensor(case[key]) for key in ("policy", "reference", "tokens", "label"))
    log_probs, mask = spread(policy[:, 0], tokens[:, 0]), masks(tokens[:, 0])
    trainer = Stand(
        model=Stand(training=False), accelerator=Same(), loss_type="kto", beta=beta, desirable_weight=good,
        undesirable_weight=bad, precompute_ref_logps=True, calculate_KL=True,
        _compute_kl_logps=lambda model, batch: torch.full_like(reference[:, 0], z0),
        _metrics={"eval": collections.defaultdict(list)}, _total_train_tokens=0)
    inputs = {"input_ids": torch.ones_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask,
              "label": label.bool(), "ref_logps": reference[:, 0], "ref_KL_logps": torch.zeros_like(reference[:, 0])}
    return KTOTrainer._compute_loss(trainer, lambda **given: Outputs(log_probs), inputs, False).item()


def pairwise(case):
    """All pairs of a ranking are a batch of TRL's; here a ranking counts once, so the mean is over batches."""
    losses = []
    for rank, margin, score in zip(case["rank"], case["margin"], case["score"]):
        pairs = [(i, j) for i in range(4) for j in range(4) if rank[i] < rank[j]]
        scores = torch.tensor([score[i] for i, _ in pairs] + [score[j] for _, j in pairs])[:, None]
        trainer = Stand(model=Stand(training=False), accelerator=Same(), _total_train_tokens=0,
                        args=Stand(center_rewards_coefficient=case["options"][0]),
                        _metrics={"eval": collections.defaultdict(list)})
        inputs = {"margin": torch.tensor([margin[i] for i, _ in pairs]), "attention_mask": torch.ones(1)}
        losses.append(RewardTrainer.compute_loss(trainer, lambda **given: Stand(logits=scores), inputs).item())
    return sum(losses) / len(losses)


def grpo_loss(logp, old, reference, advantage, entropy, mask, level, **options):
    """One sequence of TRL's: tensors [1, tokens], one advantage."""
    ids = torch.ones_like(mask)
    trainer = Stand(
        model=Stand(training=False), accelerator=Same(), top_entropy_quantile=1.0, importance_sampling_level=level,
        loss_type="grpo", args=Stand(delta=options.pop("delta", None), use_bias_correction_kl=False),
        _get_per_token_logps_and_entropies=lambda *given, **named: (logp, entropy, torch.zeros(())),
        _entropy_bonus_enabled=options["entropy_coef"] > 0, use_adaptive_entropy=False,
        _metrics={"eval": collections.defaultdict(list)}, **options)
    inputs = {"prompt_ids": ids[:, :0], "prompt_mask": ids[:, :0], "completion_ids": ids, "completion_mask": mask,
              "advantages": advantage.reshape(1), "old_per_token_logps": old, "ref_per_token_logps": reference}
    return GRPOTrainer._compute_loss(trainer, None, inputs).item()


def policy(case):
    """Each token is a sequence of TRL's, for there all tokens of a sequence have one advantage and one weight. TRL's KL
    is k3; where the case has another, that term is added here."""
    low, high, dual, kl, entropy_coefficient, k3 = case["options"]
    keys = ("logp", "old", "reference_logp", "advantage", "weight", "entropy")
    columns = [torch.tensor(case[key]) for key in keys]
    total = 0.0
    for logp, old, reference, advantage, weight, entropy in zip(*columns):
        one = lambda value: value.reshape(1, 1)
        loss = grpo_loss(one(logp), one(old), one(reference), advantage, one(entropy), torch.ones(1, 1), "token",
                         epsilon_low=low, epsilon_high=high, delta=dual if dual > 0 else None,
                         beta=kl if k3 else 0.0, entropy_coef=entropy_coefficient)
        if not k3:
            loss += kl * (logp - reference).square().item() / 2
        total += weight.item() * loss
    return total / columns[4].sum().item()


def gspo(case):
    low, high = case["options"]
    losses = []
    for logp, old, tokens, advantage in zip(*(case[key] for key in ("policy", "old", "tokens", "advantage"))):
        count = int(tokens)
        even = lambda value: torch.full((1, count), value / count)
        losses.append(grpo_loss(even(logp), even(old), even(old), torch.tensor(advantage), torch.zeros(1, count),
                                torch.ones(1, count), "sequence", epsilon_low=low, epsilon_high=high, beta=0.0,
                                entropy_coef=0.0))
    return sum(losses) / len(losses)


def main():
    torch.set_default_dtype(torch.float64)
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "golden.json")) as file:
        cases = json.load(file)["cases"]
    worst, checked = 0.0, collections.Counter()
    for case in cases:
        name, options = case["loss"], case["options"]
        if name == "dpo" and options[1] == 0:
            value = dpo(case, "sigmoid", options[0], 0.0)
        elif name == "robust":
            value = dpo(case, "robust", options[0], options[1])
        elif name == "ipo" and options[1]:
            value = dpo(case, "ipo", options[0], 0.0)
        elif name == "simpo":
            value = simpo(case)
        elif name == "orpo":
            value = orpo(case)
        elif name == "kto":
            value = kto(case)
        elif name == "pairwise" and options[1] == 0:
            value = pairwise(case)
        elif name == "policy":
            value = policy(case)
        elif name == "gspo":
            value = gspo(case)
        else:
            continue
        difference = abs(value - case["value"]) / max(1.0, abs(case["value"]))
        worst = max(worst, difference)
        checked[name] += 1
        print(f"{name:8} {options}  TRL {value:.9f}  golden {case['value']:.9f}  relative difference {difference:.1e}")
    print(f"TRL {trl.__version__}: {sum(checked.values())} cases, worst {worst:.1e}")
    raise SystemExit(0 if worst <= LIMIT and len(checked) == 9 else 1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
