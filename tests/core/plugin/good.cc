// A plugin that is read and never loaded.
#include "core/plugin/plugin.h"

inline int Inline() { return 2; }
int Strong() { return Inline(); }

TANREN_STAGE_PLUGIN(stages) {
  stages.Add("good", [] { return std::unique_ptr<tanren::Stage>(); });
}
