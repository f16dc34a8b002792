#include "stages/stages.h"

#include "stages/preference/preference_stage.h"
#include "stages/pretrain/pretrain_stage.h"
#include "stages/reward_model/reward_model_stage.h"
#include "stages/rl/rl_stage.h"
#include "stages/sft/sft_stage.h"

namespace tanren {

void RegisterStages() {
  RegisterPretrainStage();
  RegisterSftStage();
  RegisterRewardModelStage();
  RegisterPreferenceStage();
  RegisterRlStage();
}

}  // namespace tanren
