// All stages of this tree.
#ifndef TANREN_STAGES_STAGES_H_
#define TANREN_STAGES_STAGES_H_

namespace tanren {

// Registers them by name. Called once at start.
void RegisterStages();

}  // namespace tanren

#endif  // TANREN_STAGES_STAGES_H_
