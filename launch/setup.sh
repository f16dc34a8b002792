#!/usr/bin/env bash
# Installs, with apt, what Tanren is built from: only what is missing, nothing when nothing is missing.
#
#   launch/setup.sh            what the build needs
#   launch/setup.sh --tests    and what the tests need
#   launch/setup.sh --list     print the package names and change nothing (with --tests: of the tests too)
set -euo pipefail

build_packages=(
  g++ cmake ninja-build pkg-config
  libopenmpi-dev openmpi-bin
  libprotobuf-dev protobuf-compiler
  libabsl-dev libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libsimdjson-dev
  libdnnl-dev libhwy-dev
  libsentencepiece-dev libpcre2-dev libutf8proc-dev
  libzstd-dev zlib1g-dev libisal-dev libssl-dev libcpp-httplib-dev
)
test_packages=(libgtest-dev libgmock-dev)

packages=("${build_packages[@]}")
list_only=false
for argument in "$@"; do
  case $argument in
    --tests) packages+=("${test_packages[@]}") ;;
    --list) list_only=true ;;
    *) echo "setup.sh: unknown argument '$argument'; known are --tests and --list" >&2; exit 2 ;;
  esac
done
if $list_only; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

say() { echo "setup: $*"; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  say "this is not a Debian system (no apt): install the equivalents of these packages by hand, then build with" >&2
  say "  cmake --preset cpu && cmake --build --preset cpu" >&2
  printf '  %s\n' "${packages[@]}" >&2
  exit 1
fi

system="an unknown distribution"
if [ -r /etc/os-release ]; then
  # shellcheck source=/dev/null
  system=$(. /etc/os-release && echo "${ID:-unknown} ${VERSION_ID:-}")
fi
case $system in
  "debian 12") ;;
  *) say "$system is untested: Tanren is developed and tested on Debian 12. Going on." ;;
esac

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  say "all ${#packages[@]} packages are installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    say "packages are missing, this is not root and there is no sudo. Let an administrator run" >&2
    say "  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
  say "sudo is used to install packages; it may ask for your password"
fi

say "installs ${#missing[@]} packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  if ! ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "'apt-get $1' failed, see above" >&2
    exit 1
  fi
}
apt update
unknown=()
for package in "${missing[@]}"; do
  [ -n "$(apt-cache madison "$package" 2>/dev/null)" ] || unknown+=("$package")
done
if [ ${#unknown[@]} -gt 0 ]; then
  say "the package sources of $system do not have: ${unknown[*]}" >&2
  say "enable them (on Ubuntu: the universe component) or use Debian 12" >&2
  exit 1
fi
apt install -y --no-install-recommends "${missing[@]}"
say "done"
