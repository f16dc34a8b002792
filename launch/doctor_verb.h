// `tanren doctor`: what this machine and this build offer, and what would be in the way.
#ifndef TANREN_LAUNCH_DOCTOR_VERB_H_
#define TANREN_LAUNCH_DOCTOR_VERB_H_

#include <string>

namespace tanren {

struct DoctorOptions {
  // Where the write speed is measured, as a run directory would be.
  std::string directory = ".";
  // Bytes written for that; 0 skips it.
  long long write_bytes = 256 << 20;
};

// Prints one line per fact, and a line starting with "warning:" per thing to mend. Under mpirun or srun all
// ranks take part in a self-test of the collectives, and rank 0 prints. Returns 0, also with warnings; 1 when
// the self-test fails or the directory cannot be written; 2 when the launcher is wrong.
int Doctor(const DoctorOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_DOCTOR_VERB_H_
