// Ranges for profilers, seen by a profiler that is linked in. Needs the toolkit's headers and no GPU.
#define NVTX_NO_IMPL  // as profilers do: types alone
#include <nvtx3/nvToolsExt.h>

#include <string>

#include "gtest/gtest.h"
#include "kernels/device.h"

namespace {

// What the profiler has seen: "name(" where a range begins, ")" where it ends.
std::string& Seen() {
  static std::string seen;
  return seen;
}

// The one domain, made once in a process.
std::string& DomainName() {
  static std::string name;
  return name;
}

nvtxDomainHandle_t NVTX_API OnDomain(const char* name) {
  DomainName() += name;
  return reinterpret_cast<nvtxDomainHandle_t>(&DomainName());
}

void ExpectOwnDomain(nvtxDomainHandle_t domain) {
  EXPECT_EQ(domain, reinterpret_cast<nvtxDomainHandle_t>(&DomainName()));
}

int NVTX_API OnPush(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* attributes) {
  ExpectOwnDomain(domain);
  Seen() += attributes->messageType == NVTX_MESSAGE_TYPE_ASCII ? attributes->message.ascii : "no text";
  Seen() += "(";
  return 0;
}

int NVTX_API OnPop(nvtxDomainHandle_t domain) {
  ExpectOwnDomain(domain);
  Seen() += ")";
  return 0;
}

template <class Function>
NvtxFunctionPointer Untyped(Function* function) {
  return reinterpret_cast<NvtxFunctionPointer>(function);
}

// Called by NVTX at the first range of the process; 1: this profiler wants to be told.
int NVTX_API Attach(NvtxGetExportTableFunc_t tables) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(tables(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable functions = nullptr;
  unsigned int size = 0;
  if (callbacks == nullptr ||
      callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &functions, &size) == 0 ||
      size <= NVTX_CBID_CORE2_DomainCreateA) {
    return 0;
  }
  *functions[NVTX_CBID_CORE2_DomainCreateA] = Untyped(&OnDomain);
  *functions[NVTX_CBID_CORE2_DomainRangePushEx] = Untyped(&OnPush);
  *functions[NVTX_CBID_CORE2_DomainRangePop] = Untyped(&OnPop);
  return 1;
}

}  // namespace

// Found by NVTX under this name.
NvtxInitializeInjectionNvtxFunc_t InitializeInjectionNvtx2_fnptr = &Attach;

namespace tanren::kernels {
namespace {

TEST(RangesTest, AProfilerSeesThemNested) {
  Seen().clear();
  BeginRange("step");
  BeginRange("backward");
  EndRange();
  EndRange();
  BeginRange("save");
  EndRange();
  EXPECT_EQ(DomainName(), "tanren");
  EXPECT_EQ(Seen(), "step(backward())save()");
}

}  // namespace
}  // namespace tanren::kernels
