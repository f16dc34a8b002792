// What the project uses of NVTX, for the emulated GPU: ranges that nobody sees.
#ifndef TANREN_TESTS_EMULATION_INCLUDE_NVTX3_NVTOOLSEXT_H_
#define TANREN_TESTS_EMULATION_INCLUDE_NVTX3_NVTOOLSEXT_H_

#include <cstdint>

struct nvtxDomain;
using nvtxDomainHandle_t = nvtxDomain*;
struct nvtxEventAttributes_t {
  uint16_t version, size;
  int32_t messageType;
  union {
    const char* ascii;
  } message;
};
inline constexpr uint16_t NVTX_VERSION = 3;
inline constexpr uint16_t NVTX_EVENT_ATTRIB_STRUCT_SIZE = sizeof(nvtxEventAttributes_t);
inline constexpr int32_t NVTX_MESSAGE_TYPE_ASCII = 1;
inline nvtxDomainHandle_t nvtxDomainCreateA(const char*) { return nullptr; }
inline int nvtxDomainRangePushEx(nvtxDomainHandle_t, const nvtxEventAttributes_t*) { return 0; }
inline int nvtxDomainRangePop(nvtxDomainHandle_t) { return 0; }

#endif  // TANREN_TESTS_EMULATION_INCLUDE_NVTX3_NVTOOLSEXT_H_
