"""PyTorch's bf16 matrix products at the sizes of `tanren bench gemm`: the peer of docs/benchmarks/gpu.md."""
import time

import torch

SIZES = [(8192, 8192, 8192), (8192, 2304, 768), (8192, 3072, 768), (8192, 768, 3072), (8192, 50304, 768),
         (8192, 3072, 2048), (8192, 2048, 2048), (8192, 16384, 2048), (8192, 2048, 8192), (8192, 128256, 2048),
         (8192, 28672, 4096), (8192, 4096, 14336)]


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


print("pytorch", torch.__version__, torch.cuda.get_device_name(0))
for rows, out, inner in SIZES:
    x = torch.randn(rows, inner, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(out, inner, device="cuda", dtype=torch.bfloat16)
    y = torch.randn(rows, out, device="cuda", dtype=torch.bfloat16)
    flops = 2 * rows * out * inner
    rates = [flops / median_seconds(body) / 1e12
             for body in (lambda: x @ w.t(), lambda: y @ w, lambda: y.t() @ x)]
    print(f"matmul rows {rows:<6} out {out:<6} in {inner:<6} forward {rates[0]:7.1f}  input gradient {rates[1]:7.1f}  "
          f"weight gradient (bf16 out) {rates[2]:7.1f} TFLOP/s", flush=True)
