// A plugin that goes wrong while it is registered, in the way that REFUSED names.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "core/config/config.h"
#include "core/plugin/plugin.h"

TANREN_STAGE_PLUGIN(stages) {
  const char* variable = std::getenv("REFUSED");
  const std::string how = variable == nullptr ? "" : variable;
  const auto nothing = [] { return std::unique_ptr<tanren::Stage>(); };
  if (how == "taken_name") stages.Add("sft", nothing);
  if (how == "no_name") stages.Add("", nothing);
  if (how == "null_stage") stages.Add("null_stage", nothing);
  if (how == "exception") throw std::runtime_error("no licence for this stage");
  if (how == "crash") std::abort();
  // Brings in config.proto's descriptor where the object is linked to Tanren's libraries.
  if (how == "validate") (void)tanren::config::Validate(tanren::config::Config());
}
