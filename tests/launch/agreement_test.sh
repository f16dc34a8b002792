#!/usr/bin/env bash
# Ranks that differ are refused at the start: another build, another configuration, a directory that is not shared. The
# table of ranks is printed.
HERE=$(cd "$(dirname "$0")" && pwd)
source "$HERE/common.sh"
make_data
write_config
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMP_NUM_THREADS=1

# each: the ranks' own command lines, in the order of ranks.
pair() {  # pair LOG FIRST... : SECOND...
  local log=$1
  shift
  expect_exit 2 "$log" timeout 60 mpirun -n 1 "$@"
}

train=(train config.yaml "run_directory=$WORK/run")

# The linker's hash, one of its letters changed.
build_id=$(readelf -n "$TANREN" | sed -nE "s|^ *Build ID: ||p")
cp "$TANREN" other-tanren
[ -n "$build_id" ] || fail "the binary has no build id"
BUILD_ID=$build_id perl -0777 -pi -e '
  my $old = pack("H*", $ENV{BUILD_ID}); my $new = $old; substr($new, 0, 1) ^= "\x01"; s/\Q$old\E/$new/ or die "not found"' other-tanren
pair build.log "$TANREN" "${train[@]}" : -n 1 ./other-tanren "${train[@]}"
expect_text build.log "error: rank 1: on $(hostname) another build of tanren runs"
expect_text build.log "$build_id"

pair config.log "$TANREN" "${train[@]}" : -n 1 "$TANREN" "${train[@]}" optimizer.learning_rate=1e-3 train.steps=81
expect_text config.log "error: rank 1: on $(hostname) another configuration was read than on rank 0"
expect_text config.log "train.steps: 81 and not 80"
expect_text config.log "optimizer.learning_rate: 0.001 and not 0.003"

# The same relative path, in two places.
mkdir elsewhere
ln -s "$WORK"/* elsewhere/
here=("$TANREN" train config.yaml run_directory=relative)
pair directory.log -wdir "$WORK" "${here[@]}" : -n 1 -wdir "$WORK/elsewhere" "${here[@]}"
expect_text directory.log "error: rank 1: run_directory: on $(hostname), $WORK/elsewhere/relative doesn't show what rank 0 wrote"
[ -z "$(ls -A relative)" ] || fail "a mark was left behind"

expect_exit 0 table.log "$TANREN" launch -n 2 "${train[@]}" train.steps=6
expect_text table.log "rank 1    data 1   tensor 0   $(hostname), process "
! grep -q "^warning: the clock" table.log || fail "one host's clock differs from itself"
[ -z "$(find run -name '.seen-by*')" ] || fail "a mark was left behind"
! grep -q "/dev/shm" table.log || fail "a warning of /dev/shm, which has room"

# Ranks without work are said; the mesh's tensor ranks share theirs.
! grep -q "without work" table.log || fail "idle ranks where there are none"
expect_exit 0 idle.log "$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/idle" train.steps=6 batch.micro_batches=1
expect_text idle.log "warning: batch.micro_batches: 1 for 2 data ranks: 1 without work; a multiple of 2 keeps all busy"
expect_exit 0 idle.log "$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/uneven" train.steps=6 batch.micro_batches=3
expect_text idle.log "3 for 2 data ranks: 1 without work while the others compute their last"
expect_exit 0 idle.log "$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/tensor" train.steps=6 batch.micro_batches=1 parallel.tensor=2
! grep -q "without work" idle.log || fail "tensor ranks are not idle"

# Little room for Open MPI's queues: said once.
small() { unshare -m bash -c 'mount -t tmpfs -o size=2m none /dev/shm && exec "$@"' small "$@"; }
if small true 2>/dev/null; then
  expect_exit 0 small.log small "$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/small" train.steps=6
  [ "$(grep -c '^warning: /dev/shm has 2 MiB left, and Open MPI wants 16' small.log)" -eq 1 ] || { cat small.log; fail "a small /dev/shm"; }
else
  echo "skipped: mounting a small /dev/shm is not permitted here"
fi
