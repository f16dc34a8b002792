#!/usr/bin/env bash
# Makes a folder that runs tanren on an x86-64 Linux host where nothing can be installed: the binary, the shared
# libraries it needs and Open MPI. The C library and the NVIDIA driver are the host's; so are cuBLASLt and NCCL, which
# every CUDA installation has (--with-cuda copies them too, over 500 MB).
#
#   launch/bundle.sh BUILD_DIR OUT_DIR [--with-cuda] [MORE_BINARIES...]
#
#   OUT_DIR/run tanren train config.yaml
#   OUT_DIR/run mpirun -np 2 OUT_DIR/bin/tanren train config.yaml
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
build=$1
out=$2
shift 2
with_cuda=false
binaries=("$build/launch/tanren")
for argument in "$@"; do
  case $argument in
    --with-cuda) with_cuda=true ;;
    *) binaries+=("$argument") ;;
  esac
done
for binary in "${binaries[@]}"; do
  [ -x "$binary" ] || { echo "bundle.sh: $binary is no program; build it first" >&2; exit 2; }
done

mkdir -p "$out/bin" "$out/lib" "$out/openmpi/lib" "$out/openmpi/share"
for binary in "${binaries[@]}"; do
  strip -o "$out/bin/$(basename "$binary")" "$binary"
done

# Open MPI: its launcher, its daemon and the plugins that need no interconnect's libraries.
plugins=$(ompi_info --path pkglibdir --parsable | sed 's/^path:pkglibdir://')
cp "$(readlink -f "$(command -v mpirun)")" "$out/bin/mpirun"
cp "$(readlink -f "$(command -v orted)")" "$out/bin/orted"
mkdir -p "$out/openmpi/lib/openmpi3" "$out/openmpi/bin"
ln -sf ../../bin/orted "$out/openmpi/bin/orted"
for plugin in "$plugins"/*.so; do
  if ! ldd "$plugin" | grep -qE 'libucp|libfabric|libibverbs|libpsm|libmunge'  ||
    [[ $plugin == */mca_pmix_ext3x.so ]]; then
    cp "$plugin" "$out/openmpi/lib/openmpi3/"
  fi
done
cp -r "$(ompi_info --path pkgdatadir --parsable | sed 's/^path:pkgdatadir://')" "$out/openmpi/share/openmpi"
pmix=$(dirname "$(readlink -f "$(ldconfig -p | awk '/libpmix.so.2 / {print $NF; exit}')")")
[ -d "$pmix/pmix" ] && mkdir -p "$out/pmix/lib" && cp -r "$pmix/pmix" "$out/pmix/lib/"
[ -d "$pmix/../share/pmix" ] && mkdir -p "$out/pmix/share" && cp -r "$pmix/../share/pmix" "$out/pmix/share/"

# Every library that these name, except those of the host.
host='^(libc|libm|libdl|librt|libpthread|libutil|libresolv|libcuda|ld-linux-x86-64)\.so'
$with_cuda || host="$host|^(libcublas|libcublasLt|libnccl)\.so"
find "$out" -type f \( -perm -u+x -o -name '*.so*' \) -print0 | xargs -0 ldd 2>/dev/null |
  awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u | while read -r name path; do
    [[ $name =~ $host ]] || cp -Ln "$path" "$out/lib/$name"
  done

cat > "$out/run" <<'RUN'
#!/bin/sh
# Runs a program of this bundle (tanren, mpirun) with its libraries.
here=$(cd "$(dirname "$0")" && pwd)
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" PATH="$here/bin:$PATH"
export OPAL_PREFIX="$here/openmpi" OPAL_PKGLIBDIR="$here/openmpi/lib/openmpi3"
[ ! -d "$here/pmix" ] || export PMIX_INSTALL_PREFIX="$here/pmix"
# Without ssh, mpirun serves this host alone.
command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm=isolated
exec "$@"
RUN
chmod +x "$out/run"
echo "bundle.sh: $out holds $(du -sh "$out" | cut -f1); start programs with $out/run"
