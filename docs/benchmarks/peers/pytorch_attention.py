"""PyTorch's scaled-dot-product attention at the sizes of `tanren bench attention`: the peer of docs/benchmarks/gpu.md.

python3 pytorch_attention.py [head sizes] [lengths]     e.g. 64,128 2048,4096,8192,16384
"""
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

TOKENS, WIDTH = 16384, 2048


def median_seconds(body, samples=11):
    def run(calls):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            body()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / calls

    run(1)
    calls = max(1, min(200, int(0.02 / run(2))))
    return sorted(run(calls) for _ in range(samples))[samples // 2]


def main():
    head_dims = [int(x) for x in (sys.argv[1] if len(sys.argv) > 1 else "64,128").split(",")]
    lengths = [int(x) for x in (sys.argv[2] if len(sys.argv) > 2 else "2048,4096,8192,16384").split(",")]
    print("pytorch", torch.__version__, torch.cuda.get_device_name(0))
    for head_dim in head_dims:
        for length in lengths:
            heads, batch = WIDTH // head_dim, TOKENS // length
            shape = (batch, heads, length, head_dim)
            q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
            flops = 4 * batch * heads * head_dim * length * (length + 1) / 2
            for name, backend in (("cudnn", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)):
                try:
                    with sdpa_kernel(backend):
                        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                        d_out = torch.randn_like(out)
                        with torch.no_grad():
                            forward = median_seconds(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
                        backward = median_seconds(
                            lambda: torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True))
                except RuntimeError as error:
                    print(f"{name}: d {head_dim} length {length}: {str(error).splitlines()[0]}")
                    continue
                print(f"{name:6} d {head_dim:<3} length {length:<6} forward {forward * 1e3:8.3f} ms "
                      f"{flops / forward / 1e12:7.1f} TFLOP/s  backward {backward * 1e3:8.3f} ms "
                      f"{2.5 * flops / backward / 1e12:7.1f} TFLOP/s", flush=True)


main()
