#!/usr/bin/env bash
# The steps that docker/Dockerfile* and docker/*.def share. As root, on Debian 12:
#
#   docker/build.sh packages [cuda]      what the build needs
#   docker/build.sh program OUT [cuda]   builds the project around this script; leaves OUT/bin/tanren and OUT/runtime
#   OUT/runtime/build.sh runtime         in the image that is kept: libraries, Open MPI, the user tanren
#
# With cuda: a compiler in /usr/local/cuda is used where there is one, else NVIDIA's package repository gives it; the same
# with NCCL, which PyPI gives. Both have NVIDIA's licences.
set -euo pipefail
cuda_version=13-0
nccl_version=2.28.9
cuda_repository=https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
here=$(cd "$(dirname "$0")" && pwd)
export DEBIAN_FRONTEND=noninteractive

get() { apt-get install -y -q --no-install-recommends "$@"; }

cuda_packages() {
  if [ ! -x /usr/local/cuda/bin/nvcc ]; then
    get ca-certificates curl
    curl -fsSL -o /tmp/keyring.deb "$cuda_repository/cuda-keyring_1.1-1_all.deb"
    dpkg -i /tmp/keyring.deb
    apt-get update -q
    get "cuda-minimal-build-$cuda_version" "libcublas-dev-$cuda_version"
  fi
  if [ ! -e /usr/local/cuda/include/nccl.h ]; then
    get python3-pip
    # The wheel is an archive of a header and a library, which the linker wants by the name without a version.
    pip3 download -q --no-deps --only-binary :all: -d /tmp/nccl "nvidia-nccl-cu${cuda_version%-*}==$nccl_version"
    python3 -m zipfile -e /tmp/nccl/*.whl /tmp/nccl
    cp -r /tmp/nccl/nvidia/nccl/include/. /usr/local/include/
    cp /tmp/nccl/nvidia/nccl/lib/libnccl.so.2 /usr/local/lib/
    ln -s libnccl.so.2 /usr/local/lib/libnccl.so
    ldconfig
    rm -r /tmp/nccl
  fi
}

program() {
  local out=$1 preset=$2
  cd "$here/.."
  cmake --preset "$preset" -DTANREN_TESTS=OFF
  cmake --build --preset "$preset" --target tanren
  mkdir -p "$out/runtime/lib"
  # CUDA's libraries travel with the program, so that the image needs no other package source than Debian's.
  ldd "build/$preset/launch/tanren" | awk '/lib(cublas|cublasLt|nccl)\.so/ { print $1, $3 }' |
    while read -r name path; do cp -L "$path" "$out/runtime/lib/$name"; done
  docker/runtime_packages.sh "build/$preset/launch/tanren" >"$out/runtime/packages"
  install -D --strip "build/$preset/launch/tanren" "$out/bin/tanren"
  cp docker/build.sh "$out/runtime/"
}

case ${1:-} in
  packages)
    "$here/../launch/setup.sh"
    [ "${2:-}" != cuda ] || cuda_packages
    ;;
  program)
    program "${2:?usage: build.sh program OUT [cuda]}" "${3:-cpu}"
    ;;
  runtime)
    apt-get update -q
    # Open MPI finds its components, PMIx among them, by itself. The last is for InfiniBand, of UCX and NCCL.
    # shellcheck disable=SC2046 # one package a word
    get openmpi-bin ibverbs-providers $(cat "$here/packages")
    rm -rf /var/lib/apt/lists/*
    if [ -n "$(ls -A "$here/lib")" ]; then
      cp "$here"/lib/* /usr/local/lib/
      ldconfig
    fi
    useradd --create-home --uid 1000 tanren
    ;;
  *)
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
