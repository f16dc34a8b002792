// "Save and stop" as a signal: SIGUSR1 always; SIGTERM and SIGINT where nothing between the user and this
// process treats them otherwise (a bare process, or a task of srun). Under mpirun those two end the ranks
// within two seconds, so `tanren launch` turns them into SIGUSR1.
//
// A signal may reach one rank before another: the trainer agrees on it by a collective at a step's boundary.
#ifndef TANREN_PARALLEL_RUNTIME_STOP_SIGNAL_H_
#define TANREN_PARALLEL_RUNTIME_STOP_SIGNAL_H_

namespace tanren {

class StopSignal {
 public:
  // Once per process, from the main thread, before any other thread exists: blocks the signals in this thread
  // and in those it starts, and starts one that waits for them. They stay handled for the life of the
  // process: a late signal must not kill a rank that is already saving. A second SIGINT ends a process that
  // handles the first. A program that this process starts inherits the blocked signals and should unblock
  // them.
  static void Install(bool with_term_and_int);

  // From here on a write to a pipe that nobody reads (`tanren train | head`, a pipeline whose driver was
  // killed) fails and requests a stop; by default it would end this process, and with it all ranks, before a
  // save. A program that this process starts has the default again.
  static void StopOnBrokenPipe();

  // True once a signal has come.
  static bool Requested();

  // The last one that came; 0 before one has come, -1: the program's own request.
  static int Number();
  // The signal's name for the log, "" before one has come.
  static const char* Name();

  // Requests a stop from the program itself (a step limit, a test).
  static void Request();

  // Forgets a request: the next SIGINT is a first one again.
  static void Clear();
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_RUNTIME_STOP_SIGNAL_H_
