#include "stages/stages.h"

#include "stages/pretrain/pretrain_stage.h"

namespace tanren {

void RegisterStages() { RegisterPretrainStage(); }

}  // namespace tanren
