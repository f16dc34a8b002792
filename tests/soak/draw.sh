# shellcheck shell=bash disable=SC2154
# Sourced by soak parts that draw what they do from $seed, which they set first.

# A sequence of its own for each start and run, so that what is chosen next does not depend on what happened. Draws must
# not be made in subshells, which have another RANDOM.
choose_for() {
  local sum
  sum=$(cksum <<<"$seed $*")
  RANDOM=$((${sum%% *} & 0x7fffffff))
  # The first numbers of like seeds are alike.
  drawn=$((RANDOM + RANDOM + RANDOM))
}

# draw LIMIT: sets $drawn to a number from 0 below it.
draw() { drawn=$(((RANDOM << 15 | RANDOM) % $1)); }

# pick WORD...: sets $picked.
pick() {
  draw $#
  shift "$drawn"
  picked=$1
}
