#include "parallel/comm/copy.h"

#include <algorithm>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace tanren {

void CopyPastCache(void* to, const void* from, int64_t bytes) {
#if defined(__SSE2__)
  char* out = static_cast<char*>(to);
  const char* in = static_cast<const char*>(from);
  // Whole lines only: a line written in parts is read and merged after all.
  constexpr int64_t kLine = 64;
  const int64_t head = std::min(bytes, static_cast<int64_t>(-reinterpret_cast<uintptr_t>(out) & (kLine - 1)));
  std::memcpy(out, in, head);
  int64_t i = head;
  for (; i + kLine <= bytes; i += kLine) {
    const __m128i* source = reinterpret_cast<const __m128i*>(in + i);
    __m128i* target = reinterpret_cast<__m128i*>(out + i);
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  std::memcpy(out + i, in + i, bytes - i);
  _mm_sfence();
#else
  std::memcpy(to, from, bytes);
#endif
}

}  // namespace tanren
