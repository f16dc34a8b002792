// The files and directories that a message names.
#ifndef TANREN_CORE_PIPELINE_PATHS_READ_H_
#define TANREN_CORE_PIPELINE_PATHS_READ_H_

#include <string>
#include <vector>

#include "google/protobuf/message.h"

namespace tanren {

struct NamedPath {
  std::string key;  // "data.train.0.path"
  std::string path;
};

// Every value that is set, not empty, and a path by the schema.
std::vector<NamedPath> PathsIn(const google::protobuf::Message& message);

}  // namespace tanren

#endif  // TANREN_CORE_PIPELINE_PATHS_READ_H_
