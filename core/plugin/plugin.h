// A stage built outside the tree: a shared object that the program loads because a config's `plugins` names
// it.
//
// One source file of the object says which stages it brings:
//
//   TANREN_STAGE_PLUGIN(stages) {
//     stages.Add("unlikelihood", [] { return std::make_unique<UnlikelihoodStage>(); });
//   }
//
// Its options are extensions of tanren.config.Config (core/proto/config.proto), numbered from 1000. CMake's
// tanren_stage_plugin builds such an object; docs/add_a_stage.md walks through one.
//
// The object holds no code of Tanren's: it is linked to nothing of ours, and what it calls is found in the
// program when it is loaded. So there is one registry of stages and one pool of schemas. The program reads
// the object's identity out of the file and refuses it, before any of its code runs, unless it was compiled
// against the same headers by a compiler with the same layouts.
#ifndef TANREN_CORE_PLUGIN_PLUGIN_H_
#define TANREN_CORE_PLUGIN_PLUGIN_H_

#include <google/protobuf/stubs/common.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/config.h"
#include "core/data/batch.h"
#include "core/engine/engine.h"
#include "core/plugin/interface_id.h"
#include "core/proto/config.pb.h"
#include "core/trainer/stage.h"

#define TANREN_TEXT_INNER(value) #value
#define TANREN_TEXT(value) TANREN_TEXT_INNER(value)

#if defined(__clang__)
#define TANREN_COMPILER "Clang " TANREN_TEXT(__clang_major__) "." TANREN_TEXT(__clang_minor__)
#else
#define TANREN_COMPILER "GCC " __VERSION__
#endif
#if defined(_GLIBCXX_DEBUG)
#define TANREN_CHECKED_CONTAINERS ", checked containers"
#else
#define TANREN_CHECKED_CONTAINERS ""
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TANREN_SANITIZER ", address sanitizer"
#elif defined(__SANITIZE_THREAD__)
#define TANREN_SANITIZER ", thread sanitizer"
#else
#define TANREN_SANITIZER ""
#endif
#define TANREN_ABI \
  "C++ ABI " TANREN_TEXT(__GXX_ABI_VERSION) ", libstdc++ " TANREN_TEXT(_GLIBCXX_RELEASE)           \
  " with strings of kind " TANREN_TEXT(_GLIBCXX_USE_CXX11_ABI) ", C++ " TANREN_TEXT(__cplusplus)   \
  ", protobuf " TANREN_TEXT(GOOGLE_PROTOBUF_VERSION) ", Abseil " TANREN_TEXT(ABSL_LTS_RELEASE_VERSION) \
  TANREN_CHECKED_CONTAINERS TANREN_SANITIZER

namespace tanren {

// What a plugin was compiled as. Plain bytes without pointers: it is read from the file, not from memory.
struct PluginIdentity {
  char magic[16];
  uint32_t format;     // of this struct; `magic` and this stay where they are for ever
  char version[32];    // of Tanren
  char interface[65];  // SHA-256 of the headers and schemas
  char compiler[64];   // for messages: compilers may differ where what follows is the same
  char abi[192];       // all that the preprocessor knows of layouts
  uint32_t sizes[8];   // of types that cross the border, for flags that the preprocessor does not know
};

inline constexpr uint32_t kPluginFormat = 1;

// The identity of what includes this header. Evaluated by the compiler, so that each side has its own.
consteval PluginIdentity CompiledIdentity() {
  return {"tanren plugin",
          kPluginFormat,
          TANREN_INTERFACE_VERSION,
          TANREN_INTERFACE_ID,
          TANREN_COMPILER,
          TANREN_ABI,
          {sizeof(void*), sizeof(std::string), sizeof(ModelOptions), sizeof(EngineOptions),
           sizeof(MicroBatch), sizeof(StageStep), sizeof(StageValidation), sizeof(config::Config)}};
}

// The stages that a plugin brings, in the order in which it named them.
class PluginStages {
 public:
  // `name` is what the config's `stage` takes. The loader refuses a name that there is already.
  void Add(std::string name, StageFactory factory) {
    stages_.emplace_back(std::move(name), std::move(factory));
  }
  const std::vector<std::pair<std::string, StageFactory>>& stages() const { return stages_; }

 private:
  std::vector<std::pair<std::string, StageFactory>> stages_;
};

}  // namespace tanren

// Defines the two symbols that the program looks for. Once in a plugin, outside of functions.
#define TANREN_STAGE_PLUGIN(stages)                                                                    \
  extern "C" {                                                                                         \
  __attribute__((visibility("default"))) extern const ::tanren::PluginIdentity tanren_plugin_identity; \
  constinit const ::tanren::PluginIdentity tanren_plugin_identity = ::tanren::CompiledIdentity();      \
  __attribute__((visibility("default"))) void tanren_plugin_register(::tanren::PluginStages&);         \
  }                                                                                                    \
  void tanren_plugin_register(::tanren::PluginStages& stages)

#endif  // TANREN_CORE_PLUGIN_PLUGIN_H_
