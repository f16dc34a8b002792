#include "core/config/ineffective.h"

#include <initializer_list>
#include <memory>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/proto/config.pb.h"
#include "google/protobuf/text_format.h"

namespace tanren::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string ValueOf(const Message& section, const FieldDescriptor* key) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.PrintFieldValueToString(section, key, -1, &text);
  return text;
}

class Finder {
 public:
  // Each of `keys` in the section that is not at its default.
  void Add(const char* name, const Message& section, std::initializer_list<const char*> keys,
           const std::string& why) {
    const std::unique_ptr<Message> defaults(section.New());
    for (const char* key : keys) {
      const FieldDescriptor* field = section.GetDescriptor()->FindFieldByName(key);
      TANREN_CHECK_MSG(field != nullptr && !field->is_repeated(), "not a key with one value");
      const std::string value = ValueOf(section, field);
      if (value == ValueOf(*defaults, field)) continue;
      found_.push_back(absl::StrCat(name, ".", key, ": ", value, " has no effect with ", why));
    }
  }
  std::vector<std::string> Take() { return std::move(found_); }

 private:
  std::vector<std::string> found_;
};

void FindInRl(const Config& config, Finder* finder) {
  const RlConfig& rl = config.rl();
  const std::string algorithm = absl::StrCat("rl.algorithm ", RlConfig::Algorithm_Name(rl.algorithm()));
  if (rl.algorithm() != RlConfig::ppo) {
    const std::string why = absl::StrCat(algorithm, ", which has no critic");
    finder->Add("rl", rl,
                {"gamma", "lambda", "value_clip", "whiten", "critic_learning_rate", "critic_warmup_steps"},
                why);
    finder->Add("init", config.init(), {"critic"}, why);
  }
  if (rl.algorithm() == RlConfig::ppo || rl.algorithm() == RlConfig::rloo) {
    finder->Add("rl", rl, {"scale_advantages"},
                absl::StrCat(algorithm, ", whose advantages are not of groups"));
  }
  if (rl.algorithm() == RlConfig::gspo) {
    finder->Add("rl", rl, {"dual_clip", "aggregate"},
                absl::StrCat(algorithm, ", whose ratio is of whole answers"));
  }
  finder->Add("batch", config.batch(), {"micro_batches"},
              "stage rl, whose steps are rl.minibatches of a rollout");
}

void FindInPreference(const Config& config, Finder* finder) {
  const PreferenceConfig& preference = config.preference();
  const PreferenceConfig::Loss loss = preference.loss();
  const std::string why = absl::StrCat("preference.loss ", PreferenceConfig::Loss_Name(loss));
  const auto of = [&](std::initializer_list<PreferenceConfig::Loss> losses,
                      std::initializer_list<const char*> keys) {
    for (const PreferenceConfig::Loss one : losses) {
      if (one == loss) return;
    }
    finder->Add("preference", preference, keys, why);
  };
  of({PreferenceConfig::dpo}, {"reference_free"});
  of({PreferenceConfig::dpo, PreferenceConfig::robust}, {"label_smoothing"});
  of({PreferenceConfig::ipo}, {"length_norm"});
  of({PreferenceConfig::simpo}, {"gamma"});
  of({PreferenceConfig::orpo}, {"lambda"});
  of({PreferenceConfig::kto}, {"desirable_weight", "undesirable_weight"});
  if (loss == PreferenceConfig::orpo) finder->Add("preference", preference, {"beta"}, why);
  if (loss == PreferenceConfig::kto) finder->Add("preference", preference, {"pairs"}, why);
}

}  // namespace

std::vector<std::string> IneffectiveKeys(const Config& config) {
  Finder finder;
  if (config.stage() == "rl") FindInRl(config, &finder);
  if (config.stage() == "preference") FindInPreference(config, &finder);
  return finder.Take();
}

}  // namespace tanren::config
