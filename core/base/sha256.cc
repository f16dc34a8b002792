#include "core/base/sha256.h"

#include <openssl/evp.h>

#include "core/base/status.h"

namespace tanren {

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  TANREN_CHECK(context_ != nullptr);
  TANREN_CHECK(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}

void Sha256::Update(const void* data, size_t bytes) {
  TANREN_CHECK(EVP_DigestUpdate(context_.get(), data, bytes) == 1);
}

void Sha256::UpdateField(std::string_view text) {
  UpdateNumber(static_cast<int64_t>(text.size()));
  Update(text);
}

void Sha256::UpdateNumber(int64_t number) {
  unsigned char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(static_cast<uint64_t>(number) >> (8 * i));
  Update(bytes, sizeof(bytes));
}

std::string Sha256::HexDigest() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  TANREN_CHECK(EVP_DigestFinal_ex(context_.get(), digest, &length) == 1);
  std::string hex;
  for (unsigned int i = 0; i < length; ++i) absl::StrAppend(&hex, absl::Hex(digest[i], absl::kZeroPad2));
  return hex;
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.HexDigest();
}

}  // namespace tanren
