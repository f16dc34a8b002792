# Shared by the scripts that build and test. Sourced, not run.
# shellcheck shell=bash

# Compile jobs: one per core that this process may use, but no more than memory allows (about 1 GB each).
build_jobs() {
  local cores memory_gb
  cores=$(nproc)
  memory_gb=$(awk '/^MemAvailable:/ { print int($2 / 1000000) }' /proc/meminfo)
  if [ "${memory_gb:-0}" -gt 0 ] && [ "$memory_gb" -lt "$cores" ]; then
    echo "$memory_gb"
  else
    echo "$cores"
  fi
}

# configure PRESET: quietly, with everything said when it fails.
configure() {
  mkdir -p "build/$1"
  if ! cmake --preset "$1" >"build/$1/configure.log" 2>&1; then
    cat "build/$1/configure.log" >&2
    echo "the configuration failed: see above, or build/$1/configure.log" >&2
    return 1
  fi
}
