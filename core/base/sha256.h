// SHA-256 (FIPS 180-4) over a stream of bytes, through OpenSSL.
#ifndef TANREN_CORE_BASE_SHA256_H_
#define TANREN_CORE_BASE_SHA256_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace tanren {

class Sha256 {
 public:
  Sha256();

  void Update(const void* data, size_t bytes);
  void Update(std::string_view text) { Update(text.data(), text.size()); }
  // The length goes in before the bytes, so that no two sequences of fields hash alike.
  void UpdateField(std::string_view text);
  void UpdateNumber(int64_t number);  // eight bytes, little endian

  // 64 hexadecimal digits. The object must not be used afterwards.
  std::string HexDigest();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string Sha256Hex(std::string_view bytes);

}  // namespace tanren

#endif  // TANREN_CORE_BASE_SHA256_H_
