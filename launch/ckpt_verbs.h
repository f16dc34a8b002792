// tanren ckpt ls | inspect | verify | diff | reshard | prune.
//
// Each verb prints to stdout, errors to stderr, and returns the exit code: 0 done, 2 a wrong argument or a
// damaged checkpoint; CkptDiff returns 1 where the two checkpoints differ.
#ifndef TANREN_LAUNCH_CKPT_VERBS_H_
#define TANREN_LAUNCH_CKPT_VERBS_H_

#include <cstdint>
#include <string>

namespace tanren {

// The steps of a run directory, newest first: step, stage, mesh, tensors, bytes, and whether each could be
// resumed (COMMIT, manifest, sizes and headers are checked, data is not). Leftovers and steps set aside are
// named too.
struct CkptLsOptions {
  std::string run_dir;
};
int CkptLs(const CkptLsOptions& options);

// What a checkpoint holds: its head, files, state and tensors; with `chunks` every chunk of every tensor.
struct CkptInspectOptions {
  std::string directory;
  bool chunks = false;
};
int CkptInspect(const CkptInspectOptions& options);

// Reads everything and checks it.
struct CkptVerifyOptions {
  std::string directory;
};
int CkptVerify(const CkptVerifyOptions& options);

// Compares two checkpoints bit by bit, whatever their layouts: names the tensors that differ, how many
// elements, and the largest absolute difference.
struct CkptDiffOptions {
  std::string a;
  std::string b;
};
int CkptDiff(const CkptDiffOptions& options);

// Rewrites a checkpoint as whole tensors in `files` pairs of shard files. `out` must not exist.
struct CkptReshardOptions {
  std::string directory;
  std::string out;
  int files = 1;
};
int CkptReshard(const CkptReshardOptions& options);

// Removes all but the newest `keep` commits (never below two) and steps divisible by keep_every, and the
// leftovers of interrupted saves. Refused while a job owns the run.
struct CkptPruneOptions {
  std::string run_dir;
  int keep = 2;
  int64_t keep_every = 0;
};
int CkptPrune(const CkptPruneOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_CKPT_VERBS_H_
