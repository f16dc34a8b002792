// Activations of the feed-forward layer (Hendrycks and Gimpel 2016; Shazeer 2020).
//
// gelu is x Phi(x) with the error function, gelu_tanh its tanh approximation. The gated kinds take rows
// [gate | up] of 2 * width and return act(gate) * up of `width`; the others map width to width.
#ifndef TANREN_KERNELS_ACTIVATION_H_
#define TANREN_KERNELS_ACTIVATION_H_

#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

enum class Activation : uint8_t { kGelu, kGeluTanh, kSwiGlu, kGeGlu };  // kGeGlu gates with gelu_tanh

constexpr bool IsGated(Activation kind) { return kind == Activation::kSwiGlu || kind == Activation::kGeGlu; }

// x [rows, width or 2 * width] -> y [rows, width]; contiguous, one dtype (kF32 or kBF16).
void ActivationForward(const Stream& stream, Activation kind, int64_t rows, int64_t width, ConstBuffer x,
                       Buffer y);

// dx (shape of x) from dy [rows, width] and x; dx may be x.
void ActivationBackward(const Stream& stream, Activation kind, int64_t rows, int64_t width, ConstBuffer dy,
                        ConstBuffer x, Buffer dx);

// x [count] = cap * tanh(x / cap), in place; cap > 0.
void SoftCap(const Stream& stream, int64_t count, float cap, float* x);

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_ACTIVATION_H_
