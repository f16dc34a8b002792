// Ranges for profilers by NVTX, which is headers alone: it loads what NVTX_INJECTION64_PATH names, as
// profilers set it, and does nothing without.
#include <nvtx3/nvToolsExt.h>

#include "kernels/device.h"

namespace tanren::kernels {
namespace {

nvtxDomainHandle_t OwnDomain() {
  static const nvtxDomainHandle_t domain = nvtxDomainCreateA("tanren");
  return domain;
}

}  // namespace

void BeginRange(const char* name) {
  nvtxEventAttributes_t attributes = {};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name;
  nvtxDomainRangePushEx(OwnDomain(), &attributes);
}

void EndRange() { nvtxDomainRangePop(OwnDomain()); }

}  // namespace tanren::kernels
