#!/usr/bin/env bash
# Prints the Debian packages that own the shared libraries of a program, one per line; but for CUDA's.
set -euo pipefail
program=${1:?usage: runtime_packages.sh PROGRAM}
missing=$(ldd "$program" | grep 'not found' || true)
if [ -n "$missing" ]; then
  echo "runtime_packages.sh: $program lacks libraries:" >&2
  echo "$missing" >&2
  exit 1
fi
# dpkg knows some libraries by /lib and some by /usr/lib, which are the same directory.
ldd "$program" | awk '$2 == "=>" && $1 !~ /^lib(cublas|cublasLt|nccl)\.so/ { print $3 }' | while read -r library; do
  real=$(realpath "$library")
  owner=$(dpkg -S "$real" 2>/dev/null || dpkg -S "${real#/usr}" 2>/dev/null || true)
  if [ -z "$owner" ]; then
    echo "runtime_packages.sh: no package owns $real" >&2
    exit 1
  fi
  echo "${owner%%:*}"
done | sort -u
