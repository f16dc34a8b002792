// A shared object as a file: what it defines, read without running any of it.
#ifndef TANREN_CORE_PLUGIN_SHARED_OBJECT_H_
#define TANREN_CORE_PLUGIN_SHARED_OBJECT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tanren {

class SharedObject {
 public:
  // Reads the whole file. NotFound or InvalidArgument say what is wrong with it, without its path: that there
  // is none, that it is no shared object, or one of another processor, or cut off.
  static absl::StatusOr<SharedObject> Read(const std::string& path);

  // The first `bytes` bytes of the data that the symbol `name` stands for; empty where the object does not
  // define it, or with fewer bytes.
  std::string_view Data(std::string_view name, size_t bytes) const;

  // The symbols that the object defines for others to see, and that may be defined once in a program only:
  // not those of inline functions and templates.
  std::vector<std::string> StrongDefinitions() const;

  // Whether these bytes stand anywhere in the file.
  bool Contains(std::string_view bytes) const { return bytes_.find(bytes) != std::string::npos; }

  const std::string& bytes() const { return bytes_; }

 private:
  struct Segment {  // of what is loaded
    uint64_t address = 0, offset = 0, bytes = 0;
  };
  struct Symbol {  // that is defined, and seen by others
    std::string name;
    uint64_t address = 0, bytes = 0;
    bool strong = false;
  };

  absl::Status Parse();
  void ReadSymbols(uint64_t table, uint64_t table_bytes, uint64_t names, uint64_t names_bytes);
  // False where the value would reach beyond the end of the file.
  template <class T>
  bool ReadAt(uint64_t offset, T* value) const;

  std::string bytes_;
  std::vector<Segment> segments_;
  std::vector<Symbol> symbols_;
};

}  // namespace tanren

#endif  // TANREN_CORE_PLUGIN_SHARED_OBJECT_H_
