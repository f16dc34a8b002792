#!/usr/bin/env bash
# A full disk: all ranks abandon the save, the temporary directory goes, training goes on; after several failures in a
# row the run ends with an error and the old commit intact. Needs the right to mount a small tmpfs.
source "$(dirname "$0")/common.sh"
make_data
write_config
mkdir small
if ! mount -t tmpfs -o size=7m tmpfs small 2>/dev/null; then
  echo "skipped: no right to mount a tmpfs"
  exit 77
fi
trap 'umount "$WORK/small"; rm -rf "$WORK"' EXIT
# Room for a few commits of about 0.6 MB; a save also wants 4 MiB to spare.
expect_exit 1 full.log "$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/small/run" checkpoint.max_failed_saves=3
expect_text full.log "was not saved (1 in a row)"
expect_text full.log "was not saved (2 in a row)"
[ -z "$(ls -d small/run/*.tmp-* 2>/dev/null)" ] || fail "a temporary directory is left"
newest=$(ls -d small/run/step-*[0-9] | tail -n 1)
expect_exit 0 verify.log "$TANREN" ckpt verify "$newest"
# With room again the run goes on from there and ends like an undisturbed one.
mount -o remount,size=64m small
expect_exit 0 resumed.log "$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/small/run"
expect_text resumed.log "resumed $WORK/$newest"
expect_exit 0 whole.log "$TANREN" launch -n 2 train config.yaml "run_directory=$WORK/whole"
same_run whole small/run 80
echo "equal after a full disk"
