#include "espalier/sdk/plugin.h"
#include "prefix_tuning.h"
#include "prompt_tuning.h"

namespace espalier::prompts {
namespace {

void register_components(Registrar& registrar) {
  registrar.add<Adapter, PromptTuning>("prompt_tuning", "learnt tokens before every text")
      .serves("peft_types", {"PROMPT_TUNING"})
      .alias("peft.PromptTuningConfig");
  registrar
      .add<Adapter, PrefixTuning>("prefix_tuning",
                                  "learnt keys and values before every text, in each layer")
      .serves("peft_types", {"PREFIX_TUNING"})
      .alias("peft.PrefixTuningConfig");
}

}  // namespace
}  // namespace espalier::prompts

ESPALIER_PLUGIN("espalier.prompt_learning", "0.1.0", espalier::prompts::register_components)
