#include "espalier/base/stable_registrar.h"

#include <map>

#include "espalier/base/error.h"
#include "espalier/base/json.h"

namespace espalier {
namespace {

std::map<std::string, StableFactory, std::less<>>& factories() {
  static auto* const kFactories = new std::map<std::string, StableFactory, std::less<>>;
  return *kFactories;
}

[[noreturn]] void refuse(std::string what, std::string found, std::string expected) {
  throw Error(
      {ErrorCode::kBadPlugin, std::move(what), std::move(found), std::move(expected), {}, {}});
}

std::string text(const char* value) { return value == nullptr ? "" : value; }

/// Older plugins have shorter structures; one that lacks a field of this version's first minor is
/// none at all.
template <class T>
const T& checked(const T* structure, const char* name) {
  if (structure == nullptr) refuse(std::string(name) + " is a null pointer", {}, {});
  if (structure->struct_size < sizeof(T))
    refuse(std::string(name) + " is too short", std::to_string(structure->struct_size) + " bytes",
           "at least " + std::to_string(sizeof(T)) + " bytes: struct_size = sizeof(" + name + ")");
  return *structure;
}

FieldType type_named(const std::string& name, const std::string& field) {
  for (const FieldType type :
       {FieldType::kBool, FieldType::kInt, FieldType::kFloat, FieldType::kString}) {
    if (field_type_name(type) == name) return type;
  }
  refuse("setting '" + field + "' has an unknown type", "'" + name + "'",
         "bool, int, float or string");
}

SchemaSpec schema_of(const EspalierCField* fields, std::size_t count) {
  SchemaSpec schema;
  for (std::size_t i = 0; i < count; ++i) {
    const EspalierCField& field = checked(fields + i, "EspalierCField");
    FieldSpec spec;
    spec.name = text(field.name);
    spec.type = type_named(text(field.type), spec.name);
    spec.doc = text(field.doc);
    spec.required = field.default_value == nullptr;
    if (!spec.required) spec.default_value = parse_json(field.default_value);
    if (field.minimum != nullptr) spec.minimum = *field.minimum;
    if (field.maximum != nullptr) spec.maximum = *field.maximum;
    schema.fields.push_back(std::move(spec));
  }
  return schema;
}

ComponentDescriptor component(const char* interface, const char* name, const char* doc,
                              SchemaSpec schema, const void* structure) {
  ComponentDescriptor component;
  component.interface = interface;
  component.name = text(name);
  component.doc = text(doc);
  component.schema = std::move(schema);
  component.create = [structure, interface, schema = component.schema,
                      name = component.name](const Value& config) -> std::shared_ptr<void> {
    ProblemList problems;
    check_config(schema, config, name, problems, {"type"});
    problems.throw_if_any();
    const auto factory = factories().find(interface);
    if (factory == factories().end())
      throw Error({ErrorCode::kUnsupported,
                   std::string("a ") + interface + " needs the engine",
                   "a program without LibTorch",
                   {},
                   {},
                   {}});
    return factory->second(structure, config);
  };
  return component;
}

}  // namespace

/// The functions behind an EspalierCRegistrar; no exception leaves them.
struct StableCalls {
  template <class Work>
  static std::int32_t guarded(void* host, const Work& work) {
    auto& self = *static_cast<StableRegistrar*>(host);
    try {
      work(self.registrar_);
      return ESPALIER_C_OK;
    } catch (const Error& error) {
      const Problem& problem = error.problems().front();
      self.refusal_ = problem.what;
      if (!problem.found.empty()) self.refusal_ += ": found " + problem.found;
      if (!problem.expected.empty()) self.refusal_ += ", expected " + problem.expected;
    } catch (const std::exception& error) {
      self.refusal_ = error.what();
    }
    return ESPALIER_C_FAILED;
  }

  static std::int32_t add_loss(void* host, const EspalierCLoss* loss) {
    return guarded(host, [&](Registrar& registrar) {
      checked(loss, "EspalierCLoss");
      if (loss->compute == nullptr) refuse("the loss has no function compute", {}, {});
      registrar.add_descriptor(component("Loss", loss->name, loss->doc,
                                         schema_of(loss->fields, loss->num_fields), loss));
    });
  }

  static std::int32_t add_kernel_pack(void* host, const EspalierCKernelPack* pack) {
    return guarded(host, [&](Registrar& registrar) {
      checked(pack, "EspalierCKernelPack");
      Array ops;
      for (std::size_t i = 0; i < pack->num_kernels; ++i) {
        const EspalierCKernel& kernel = checked(pack->kernels[i], "EspalierCKernel");
        if (kernel.describe == nullptr || kernel.forward == nullptr || kernel.backward == nullptr)
          refuse("a kernel of '" + text(kernel.op) + "' lacks a function", {},
                 "describe, forward and backward");
        ops.emplace_back(text(kernel.op));
      }
      registrar.add_descriptor(component("KernelPack", pack->name, pack->doc, {}, pack))
          .property("ops", std::move(ops));
    });
  }

  static std::int32_t require(void* host, const char* requirement) {
    return guarded(host, [&](Registrar& registrar) { registrar.require(text(requirement)); });
  }
  static std::int32_t license(void* host, const char* spdx) {
    return guarded(host, [&](Registrar& registrar) { registrar.license(text(spdx)); });
  }
};

StableRegistrar::StableRegistrar(Registrar& registrar)
    : registrar_(registrar), table_{sizeof(EspalierCRegistrar), this,
                                    StableCalls::add_loss,      StableCalls::add_kernel_pack,
                                    StableCalls::require,       StableCalls::license} {}

void set_stable_factory(std::string_view interface, StableFactory factory) {
  factories()[std::string(interface)] = factory;
}

}  // namespace espalier
