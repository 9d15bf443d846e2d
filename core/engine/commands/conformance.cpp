// The conformance kit's checks for one component, one check a call: the front end runs each in a
// process of its own.
#include <ATen/Parallel.h>

#include "engine/commands/engine_command.h"
#include "espalier/base/error.h"
#include "espalier/conformance/check.h"

namespace espalier {
namespace {

Value listed(std::string_view interface) {
  Array checks;
  for (const conformance::Check& check : conformance::checks_of(interface)) {
    Table entry;
    entry.set("id", std::string(check.id));
    entry.set("level", static_cast<std::int64_t>(check.level));
    entry.set("text", std::string(check.text));
    checks.emplace_back(std::move(entry));
  }
  return checks;
}

}  // namespace

int run_conformance(const EngineCall& call) {
  if (!call.option("interface").is_null()) {
    *call.request.answer = listed(call.text("interface"));
    return 0;
  }
  const ChosenComponent& chosen = call.request.components.at("subject");
  const ComponentDescriptor& component = *chosen.component.component;
  at::set_num_threads(1);
  conformance::Subject subject;
  subject.component = chosen.component.qualified_name();
  subject.config = chosen.config;
  subject.create_object = [&] {
    return call.host.create_object({component.interface, component.interface_version},
                                   chosen.component, chosen.config);
  };
  subject.sample = call.option("sample");
  if (const Value* claims = component.properties.find("capabilities"))
    subject.capabilities = *claims;
  subject.serves = component.serves;
  subject.properties = component.properties;
  subject.folder = call.text("folder");
  subject.seed = static_cast<std::uint64_t>(call.option("seed").as_int());
  conformance::Report report;
  for (const conformance::Check& check : conformance::checks_of(component.interface)) {
    if (check.id == call.text("check")) check.run(subject, report);
  }
  *call.request.answer = report.to_value();
  return 0;
}

}  // namespace espalier
