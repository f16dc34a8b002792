#include "launch/output_relay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace tanren {
namespace {

struct Pipe {
  Pipe() {
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
    reader = Descriptor(ends[0]);
    writer = Descriptor(ends[1]);
  }
  Descriptor reader, writer;
};

// The part of a launcher: waits, and moves. True once nobody reads.
bool WaitAndMove(OutputRelay* relay) {
  std::vector<pollfd> sources;
  relay->AddTo(&sources);
  poll(sources.data(), sources.size(), 100);
  return relay->Move();
}

std::string Noise(size_t bytes) {
  std::string text(bytes, 0);
  uint32_t state = 1;
  for (char& c : text) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return text;
}

TEST(OutputRelayTest, HandsOnEveryByteToASlowReader) {
  const std::string sent = Noise(3 << 20);
  Pipe target;
  OutputRelay relay(target.writer.get());
  const int end = dup(relay.write_end());
  relay.ChildHasIt();
  std::thread child([&] {
    for (size_t done = 0; done < sent.size();) {
      const ssize_t count = write(end, sent.data() + done, std::min<size_t>(7777, sent.size() - done));
      if (count > 0) done += static_cast<size_t>(count);
    }
    close(end);
  });
  std::string got;
  std::thread reader([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    char text[10000];
    while (got.size() < sent.size()) {
      const ssize_t count = read(target.reader.get(), text, sizeof(text));
      if (count <= 0) break;
      got.append(text, static_cast<size_t>(count));
      if (got.size() % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  std::vector<pollfd> sources;
  // Once the child has ended and all is handed on there is only the reader to watch.
  do {
    EXPECT_FALSE(WaitAndMove(&relay));
    sources.clear();
    relay.AddTo(&sources);
  } while (relay.waits() || sources.size() > 1);
  child.join();
  reader.join();
  EXPECT_TRUE(got == sent) << got.size() << " bytes of " << sent.size();
}

TEST(OutputRelayTest, ATargetThatIsFullBlocksNobodyButTheChild) {
  Pipe target;
  fcntl(target.writer.get(), F_SETPIPE_SZ, 4096);
  OutputRelay relay(target.writer.get());
  const std::string text = Noise(20000);
  ASSERT_EQ(write(relay.write_end(), text.data(), text.size()), 20000);
  EXPECT_FALSE(relay.Move());  // a write to the full pipe would never return
  EXPECT_TRUE(relay.waits());
}

TEST(OutputRelayTest, SaysOnceThatNobodyReadsAndGoesOnTaking) {
  signal(SIGPIPE, SIG_IGN);
  Pipe target;
  OutputRelay relay(target.writer.get());
  EXPECT_FALSE(WaitAndMove(&relay));
  target.reader = Descriptor();
  EXPECT_TRUE(WaitAndMove(&relay));  // found out without a byte to hand on
  const std::string text = Noise(4096);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(write(relay.write_end(), text.data(), text.size()), 4096);
    EXPECT_FALSE(WaitAndMove(&relay));
    EXPECT_FALSE(relay.waits());
  }
}

TEST(OutputRelayTest, OnlyPipesNeedIt) {
  const Pipe pipe;
  EXPECT_TRUE(OutputRelay::Needs(pipe.writer.get()));
  const Descriptor file(open("/dev/null", O_WRONLY | O_CLOEXEC));
  EXPECT_FALSE(OutputRelay::Needs(file.get()));
  EXPECT_FALSE(OutputRelay::Needs(-1));
}

}  // namespace
}  // namespace tanren
