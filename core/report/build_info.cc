#include "core/report/build_info.h"

#include <elf.h>
#include <gnu/libc-version.h>
#include <google/protobuf/stubs/common.h>
#include <link.h>

#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

// Looks for the build id among the notes of one program header segment.
std::string BuildIdInNotes(const char* notes, size_t bytes, size_t alignment) {
  const auto padded = [alignment](size_t size) { return (size + alignment - 1) / alignment * alignment; };
  while (bytes >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes, sizeof(note));
    const size_t name_end = sizeof(note) + padded(note.n_namesz), end = name_end + padded(note.n_descsz);
    if (end > bytes) break;
    const bool is_gnu = note.n_namesz == 4 && std::memcmp(notes + sizeof(note), "GNU", 4) == 0;
    if (is_gnu && note.n_type == NT_GNU_BUILD_ID) {
      return std::string(absl::BytesToHexString(absl::string_view(notes + name_end, note.n_descsz)));
    }
    notes += end;
    bytes -= end;
  }
  return "";
}

// The first object that dl_iterate_phdr visits is the program itself.
int VisitProgram(dl_phdr_info* info, size_t, void* out) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_NOTE) continue;
    const char* notes = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
    std::string id = BuildIdInNotes(notes, header.p_memsz, header.p_align == 8 ? 8 : 4);
    if (!id.empty()) *static_cast<std::string*>(out) = std::move(id);
  }
  return 1;
}

BuildInfo MakeBuildInfo() {
  BuildInfo info;
  info.version = TANREN_VERSION;
  dl_iterate_phdr(VisitProgram, &info.build_id);
#if defined(__clang__)
  info.compiler = absl::StrCat("Clang ", __clang_version__);
#else
  info.compiler = absl::StrCat("GCC ", __VERSION__);
#endif
  info.build_type = TANREN_BUILD_TYPE;
  info.compile_flags = TANREN_COMPILE_FLAGS;
  info.libraries = {
      {"glibc", gnu_get_libc_version()},
      {"protobuf", google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION)},
      {"nlohmann_json", absl::StrCat(NLOHMANN_JSON_VERSION_MAJOR, ".", NLOHMANN_JSON_VERSION_MINOR, ".",
                                     NLOHMANN_JSON_VERSION_PATCH)},
  };
  return info;
}

}  // namespace

const BuildInfo& ThisBuild() {
  static const BuildInfo info = MakeBuildInfo();
  return info;
}

}  // namespace tanren
