#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes expected_torch.def: parameters after three steps of PyTorch's optimisers, and layers' outputs, in double precision.
The values in the tree were made with PyTorch 1.13.0 (Debian 12, python3-torch)."""
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def spread(n, low, high, seed):  # as in tensor_test.h
    u = [(0.754877666246693 * (i + 1) + 0.569840290998053 * (seed + 1)) % 1 for i in range(n)]
    return torch.tensor([low + (high - low) * (0.02 + 0.96 * x) for x in u])


def row(name, values):
    print(f'EXPECTED({name}, {", ".join(repr(float(v)) for v in values.detach().flatten())})')


print("// SPDX-License-Identifier: MIT")
print("// EXPECTED(name, values): written by expected_torch.py with PyTorch", torch.__version__)
print("// clang-format off")
for name, make in {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "sgd_dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "adam_decay": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}.items():
    p = spread(4, -2, 2, 0).requires_grad_()
    target = spread(4, -2, 2, 5)
    optimizer = make([p])
    for _ in range(3):
        optimizer.zero_grad()
        ((p - target) ** 2 * p.sin()).sum().backward()
        optimizer.step()
    row(name, p)

x = spread(2 * 4 * 3 * 3, -2, 2, 1).reshape(2, 4, 3, 3)
bn = torch.nn.BatchNorm2d(4)
bn.weight.data, bn.bias.data = spread(4, -1, 1, 2), spread(4, -1, 1, 3)
row("batch_norm_training", bn(x)[0, :2])
row("batch_norm_mean", bn.running_mean)
row("batch_norm_var", bn.running_var)
row("batch_norm_eval", bn.eval()(x)[0, :2])
gn = torch.nn.GroupNorm(2, 4)
gn.weight.data, gn.bias.data = spread(4, -1, 1, 2), spread(4, -1, 1, 3)
row("group_norm", gn(x)[1, 1:3])
att = torch.nn.MultiheadAttention(4, 2, batch_first=True)
att.in_proj_weight.data, att.in_proj_bias.data = spread(48, -1, 1, 2).reshape(12, 4), spread(12, -1, 1, 3)
att.out_proj.weight.data, att.out_proj.bias.data = spread(16, -1, 1, 4).reshape(4, 4), spread(4, -1, 1, 5)
s = spread(24, -2, 2, 6).reshape(2, 3, 4)
row("attention", att(s, s, s)[0])
row("attention_causal", att(s, s, s, attn_mask=torch.ones(3, 3).triu(1).bool())[0])
row("conv_transpose2d", F.conv_transpose2d(spread(24, -2, 2, 1).reshape(1, 4, 2, 3), spread(24, -1, 1, 2).reshape(4, 1, 3, 2),
                                           spread(2, -1, 1, 3), stride=2, padding=1, output_padding=1, groups=2, dilation=(1, 2)))
p = spread(30, -2, 2, 4).reshape(1, 1, 5, 6)
row("max_pool2d_ceil", F.max_pool2d(p, 3, 2, 1, ceil_mode=True))
row("avg_pool2d_ceil", F.avg_pool2d(p, 3, 2, 1, ceil_mode=True))
row("avg_pool2d_ceil_inside", F.avg_pool2d(p, (3, 2), 2, 1, ceil_mode=True, count_include_pad=False))
logits, classes = spread(18, -2, 2, 8).reshape(2, 3, 3), torch.tensor([[0, 2, 1], [1, 1, 0]])
row("cross_entropy", F.cross_entropy(logits, classes))
row("cross_entropy_smooth", F.cross_entropy(logits, classes, label_smoothing=0.2, ignore_index=1))
row("cross_entropy_none", F.cross_entropy(logits, classes, reduction="none"))
