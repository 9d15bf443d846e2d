#include "plugin/lock_file.h"

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/sha256.h"

namespace espalier::plugin {
namespace {

constexpr int kLockVersion = 1;

const Value* locked_entry(const Value& lock, const std::string& id) {
  const Value* plugins = lock.find("plugins");
  if (plugins == nullptr || !plugins->is_array()) return nullptr;
  for (const Value& entry : plugins->as_array()) {
    const Value* locked_id = entry.find("id");
    if (locked_id != nullptr && *locked_id == Value(id)) return &entry;
  }
  return nullptr;
}

}  // namespace

void write_lock_file(const std::string& path,
                     const std::vector<std::shared_ptr<const Plugin>>& plugins) {
  Array entries;
  for (const auto& plugin : plugins) {
    Table entry;
    entry.set("id", plugin->manifest.id);
    entry.set("version", plugin->manifest.version);
    entry.set("path", plugin->path);
    entry.set("sha256", sha256_of_file(plugin->path));
    entry.set("fingerprint", plugin->manifest.fingerprint);
    entries.emplace_back(std::move(entry));
  }
  Table lock;
  lock.set("lock_version", kLockVersion);
  lock.set("plugins", std::move(entries));
  write_file_atomically(path, dump_json(Value(std::move(lock)), 2) + "\n");
}

std::optional<Problem> lock_problem(const Value& lock, const std::string& path,
                                    const Plugin& plugin) {
  const std::string& id = plugin.manifest.id;
  const Value* entry = locked_entry(lock, id);
  const Value* locked = entry == nullptr ? nullptr : entry->find("sha256");
  if (locked == nullptr)
    return Problem{ErrorCode::kBadPlugin,
                   "plugin '" + id + "' is not in the lock file",
                   plugin.path,
                   "an entry in " + path,
                   path,
                   "write the lock file anew to accept the plugin: espalier plugins lock"};
  const std::string digest = sha256_of_file(plugin.path);
  if (*locked == Value(digest)) return std::nullopt;
  return Problem{ErrorCode::kBadPlugin,
                 "plugin '" + id + "' is not the file that was locked",
                 "sha256 " + digest,
                 "sha256 " + dump_json(*locked),
                 plugin.path,
                 "restore the locked file, or write " + path + " anew to accept this one"};
}

void check_lock_file(const std::string& path,
                     const std::vector<std::shared_ptr<const Plugin>>& plugins) {
  const Value lock = read_json_file(path);
  ProblemList problems;
  for (const auto& plugin : plugins) {
    if (auto problem = lock_problem(lock, path, *plugin)) problems.add(std::move(*problem));
  }
  problems.throw_if_any();
}

}  // namespace espalier::plugin
