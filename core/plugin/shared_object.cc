#include "core/plugin/shared_object.h"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/status.h"

namespace tanren {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
constexpr uint64_t kMaxHeaders = 65536;

#if defined(__x86_64__)
constexpr int kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr int kMachine = EM_AARCH64;
#else
#error "name this processor's number in ELF files"
#endif

absl::StatusOr<std::string> ReadWhole(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return absl::NotFoundError("there is no such file");
  if (!std::filesystem::is_regular_file(status)) return InvalidInput("is no file");
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error || size > kMaxBytes) return InvalidInput("is larger than 1 GiB");
  std::ifstream in(path, std::ios::binary);
  std::string bytes(size, '\0');
  in.read(bytes.data(), static_cast<std::streamsize>(size));
  if (!in) return InvalidInput("cannot be read: %s", std::strerror(errno));
  return bytes;
}

}  // namespace

absl::StatusOr<SharedObject> SharedObject::Read(const std::string& path) {
  SharedObject object;
  TANREN_ASSIGN_OR_RETURN(object.bytes_, ReadWhole(path));
  TANREN_RETURN_IF_ERROR(object.Parse());
  return object;
}

template <class T>
bool SharedObject::ReadAt(uint64_t offset, T* value) const {
  if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return false;
  std::memcpy(value, bytes_.data() + offset, sizeof(T));
  return true;
}

absl::Status SharedObject::Parse() {
  if (bytes_.starts_with("!<arch>")) return InvalidInput("is a static library, not a shared object");
  ElfW(Ehdr) header;
  if (!bytes_.starts_with(std::string_view(ELFMAG, SELFMAG)) || !ReadAt(0, &header)) {
    return InvalidInput("is no shared object");
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != kMachine) {
    return InvalidInput("is built for another processor than this program");
  }
  if (header.e_type != ET_DYN) {
    return InvalidInput("is no shared object but %s",
                        header.e_type == ET_REL ? "a compiled file; link it with -shared" : "a program");
  }
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    ElfW(Phdr) program;
    if (!ReadAt(header.e_phoff + i * sizeof(program), &program)) return InvalidInput("is cut off or damaged");
    if (program.p_type == PT_LOAD) segments_.push_back({program.p_vaddr, program.p_offset, program.p_filesz});
  }
  for (uint64_t i = 0; i < std::min<uint64_t>(header.e_shnum, kMaxHeaders); ++i) {
    ElfW(Shdr) symbols, names;
    if (!ReadAt(header.e_shoff + i * sizeof(symbols), &symbols)) return InvalidInput("is cut off or damaged");
    if (symbols.sh_type != SHT_DYNSYM) continue;
    if (!ReadAt(header.e_shoff + symbols.sh_link * sizeof(names), &names)) {
      return InvalidInput("is cut off or damaged");
    }
    ReadSymbols(symbols.sh_offset, symbols.sh_size, names.sh_offset, names.sh_size);
  }
  return absl::OkStatus();
}

void SharedObject::ReadSymbols(uint64_t table, uint64_t table_bytes, uint64_t names, uint64_t names_bytes) {
  if (names > bytes_.size() || names_bytes > bytes_.size() - names) return;
  const std::string_view all_names(bytes_.data() + names, names_bytes);
  ElfW(Sym) symbol;
  for (uint64_t i = 0; i < table_bytes / sizeof(symbol); ++i) {
    if (!ReadAt(table + i * sizeof(symbol), &symbol)) return;
    const int binding = ELF64_ST_BIND(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF || binding == STB_LOCAL || symbol.st_name >= all_names.size()) continue;
    const std::string_view rest = all_names.substr(symbol.st_name);
    symbols_.push_back({std::string(rest.substr(0, rest.find('\0'))), symbol.st_value, symbol.st_size,
                        binding == STB_GLOBAL});
  }
}

std::string_view SharedObject::Data(std::string_view name, size_t bytes) const {
  for (const Symbol& symbol : symbols_) {
    if (symbol.name != name || symbol.bytes < bytes) continue;
    for (const Segment& segment : segments_) {
      const uint64_t inside = symbol.address - segment.address;
      if (symbol.address < segment.address || inside >= segment.bytes) continue;
      const uint64_t offset = segment.offset + inside;
      if (bytes > segment.bytes - inside || offset > bytes_.size() || bytes_.size() - offset < bytes) break;
      return std::string_view(bytes_).substr(offset, bytes);
    }
  }
  return {};
}

std::vector<std::string> SharedObject::StrongDefinitions() const {
  std::vector<std::string> names;
  for (const Symbol& symbol : symbols_) {
    if (symbol.strong) names.push_back(symbol.name);
  }
  return names;
}

}  // namespace tanren
