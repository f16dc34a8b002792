#include "core/plugin/load.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "core/config/config.h"
#include "core/config/text.h"
#include "core/plugin/crash_report.h"

namespace tanren {
namespace {

constexpr char kIdentitySymbol[] = "tanren_plugin_identity";
constexpr char kRegisterSymbol[] = "tanren_plugin_register";
constexpr size_t kMaxPathBytes = 400;
constexpr PluginIdentity kOurs = CompiledIdentity();

// A field of fixed size, printable even if the file is damaged.
template <size_t kBytes>
std::string TextOf(const char (&field)[kBytes]) {
  return config::Printable(std::string_view(field, strnlen(field, kBytes)), kBytes);
}

// "tanren::Score(int)" where the text ends with its mangled name.
std::string Demangled(const std::string& text) {
  const size_t begin = text.rfind("_Z");
  if (begin == std::string::npos) return text;
  int failed = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(text.c_str() + begin, nullptr, nullptr, &failed), std::free);
  return failed == 0 ? text.substr(0, begin) + name.get() : text;
}

absl::Status CheckIdentity(const PluginIdentity& its) {
  if (TextOf(its.version) != TextOf(kOurs.version)) {
    return InvalidInput("is built for tanren %s, and this is tanren %s; build it again", TextOf(its.version),
                        TextOf(kOurs.version));
  }
  if (TextOf(its.interface) != TextOf(kOurs.interface)) {
    return InvalidInput(
        "is built against other headers of tanren %s (interface %.12s) than this program (%.12s); build it "
        "again",
        TextOf(its.version), TextOf(its.interface), TextOf(kOurs.interface));
  }
  if (TextOf(its.abi) != TextOf(kOurs.abi)) {
    return InvalidInput("is compiled by %s (%s), and this program by %s (%s); build it again as this is",
                        TextOf(its.compiler), TextOf(its.abi), TextOf(kOurs.compiler), TextOf(kOurs.abi));
  }
  if (!std::equal(std::begin(its.sizes), std::end(its.sizes), std::begin(kOurs.sizes))) {
    return InvalidInput(
        "is compiled with flags that change the layout of types (-fpack-struct and the like); build it "
        "without them");
  }
  return absl::OkStatus();
}

// Where the program itself, not a library of its, has a symbol of this name.
bool ProgramDefines(const std::string& symbol) {
  Dl_info here, there;
  void* address = dlsym(RTLD_DEFAULT, symbol.c_str());
  return address != nullptr && dladdr(address, &there) != 0 &&
         dladdr(reinterpret_cast<void*>(&LoadPlugin), &here) != 0 && here.dli_fbase == there.dli_fbase;
}

// Its own copies would be registered a second time, which aborts, or be used by one side only.
absl::Status CheckNoCopies(const SharedObject& object) {
  constexpr const char* kWayOut =
      "a plugin must not bring Tanren's own code: link it to tanren::plugin (tanren_stage_plugin does), not "
      "to tanren::tanren";
  for (const std::string schema : {"core/proto/config.proto", "core/proto/options.proto"}) {
    // A schema's descriptor begins with its name as field 1; where it is only imported, the name is field 3.
    const std::string descriptor =
        absl::StrCat("\n", std::string(1, static_cast<char>(schema.size())), schema);
    if (object.Contains(descriptor)) return InvalidInput("holds a copy of %s; %s", schema, kWayOut);
  }
  for (const std::string& name : object.StrongDefinitions()) {
    if (absl::StartsWith(name, "_Z") && ProgramDefines(name)) {
      return InvalidInput("defines %s, which this program has already; %s, or rename what is yours",
                          Demangled(name), kWayOut);
    }
  }
  return absl::OkStatus();
}

// What stands in dlopen's message after the path.
std::string LoaderReason(const std::string& path) {
  const char* text = dlerror();
  std::string reason = text == nullptr ? "unknown reason" : text;
  if (reason.starts_with(path + ": ")) reason.erase(0, path.size() + 2);
  return absl::StrCat("cannot be loaded: ", Demangled(reason));
}

// Runs the object's code: its constructors, then its entry point.
absl::Status RunPlugin(const std::string& path, PluginStages* stages) {
  const CrashReport report(absl::StrCat(config::Printable(path, kMaxPathBytes), ": the plugin"));
  try {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return InvalidInput("%s", LoaderReason(path));
    void* entry = dlsym(handle, kRegisterSymbol);
    if (entry == nullptr) return InvalidInput("has no %s", kRegisterSymbol);
    reinterpret_cast<void (*)(PluginStages&)>(entry)(*stages);
  } catch (const std::exception& error) {
    return InvalidInput("threw an exception while it was loaded: %s", error.what());
  } catch (...) {
    return InvalidInput("threw an exception while it was loaded");
  }
  return absl::OkStatus();
}

std::vector<LoadedPlugin>& Plugins() {
  static auto& plugins = *new std::vector<LoadedPlugin>();
  return plugins;
}

absl::Status Load(const std::string& named) {
  TANREN_ASSIGN_OR_RETURN(const SharedObject object, SharedObject::Read(named));
  std::error_code error;
  const std::string path = std::filesystem::canonical(named, error).string();
  if (error) return InvalidInput("cannot be found: %s", error.message());
  if (std::ranges::any_of(Plugins(), [&](const LoadedPlugin& other) { return other.path == path; })) {
    return absl::OkStatus();
  }
  TANREN_RETURN_IF_ERROR(CheckPlugin(object));
  PluginStages stages;
  TANREN_RETURN_IF_ERROR(RunPlugin(path, &stages));
  if (stages.stages().empty()) return InvalidInput("brings no stage; TANREN_STAGE_PLUGIN must add one");
  LoadedPlugin plugin{path, Sha256Hex(object.bytes()), {}};
  for (const auto& [name, factory] : stages.stages()) {
    TANREN_RETURN_IF_ERROR(AddStage(name, factory));
    plugin.stages.push_back(name);
  }
  Plugins().push_back(std::move(plugin));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckPlugin(const SharedObject& object) {
  const std::string_view bytes = object.Data(kIdentitySymbol, sizeof(PluginIdentity));
  PluginIdentity its;
  if (!bytes.empty()) std::memcpy(&its, bytes.data(), sizeof(its));
  if (bytes.empty() || std::memcmp(its.magic, kOurs.magic, sizeof(its.magic)) != 0) {
    return InvalidInput("is no plugin of tanren: it has no entry point (TANREN_STAGE_PLUGIN)");
  }
  if (its.format != kOurs.format) {
    return InvalidInput(
        "is built for another tanren than %s (its entry point is of format %d, not %d); build it again",
        TextOf(kOurs.version), its.format, kOurs.format);
  }
  TANREN_RETURN_IF_ERROR(CheckIdentity(its));
  return CheckNoCopies(object);
}

absl::Status LoadPlugin(const std::string& path) {
  return At(config::Printable(path, kMaxPathBytes), Load(path));
}

const std::vector<LoadedPlugin>& LoadedPlugins() { return Plugins(); }

absl::StatusOr<config::Config> LoadConfigWithPlugins(const std::string& path,
                                                     std::span<const std::string> overrides) {
  for (const config::PluginPath& plugin : config::PluginsOf(path, overrides)) {
    if (absl::Status loaded = LoadPlugin(plugin.path); !loaded.ok()) return At(plugin.place, loaded);
  }
  return config::LoadConfig(path, overrides);
}

}  // namespace tanren
