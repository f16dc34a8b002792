// Loads the plugins that a config names, before the config itself can be read.
#ifndef TANREN_CORE_PLUGIN_LOAD_H_
#define TANREN_CORE_PLUGIN_LOAD_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/plugin/plugin.h"
#include "core/plugin/shared_object.h"
#include "core/proto/config.pb.h"

namespace tanren {

// Looks at a plugin's file, and runs none of it. InvalidArgument when it has no entry point, was compiled for
// another Tanren, against other headers or with other layouts, or brings a copy of Tanren's own code.
absl::Status CheckPlugin(const SharedObject& object);

struct LoadedPlugin {
  std::string path;    // absolute, links followed
  std::string sha256;  // of the file
  std::vector<std::string> stages;
};

// Loads the shared object at `path` (relative to where the program was started; never searched for anywhere
// else) and registers its stages. Its options are known to LoadConfig from then on. Nothing happens where the
// same file is loaded already. A plugin stays until the program ends. Not for several threads.
//
// NotFound or InvalidArgument begin with the path: CheckPlugin's reasons; a symbol that this program does not
// have; an exception; no stage; a stage whose name is taken. A crash ends the process with exit code 2 and a
// message (CrashReport). After an error the program must not go on to train: the object may be half loaded.
absl::Status LoadPlugin(const std::string& path);

const std::vector<LoadedPlugin>& LoadedPlugins();

// config::LoadConfig with the plugins loaded that the file, what it includes or the overrides name.
absl::StatusOr<config::Config> LoadConfigWithPlugins(const std::string& path,
                                                     std::span<const std::string> overrides);

}  // namespace tanren

#endif  // TANREN_CORE_PLUGIN_LOAD_H_
