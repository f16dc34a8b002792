#include "parallel/watchdog/network.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/watchdog/identity.h"

namespace tanren {
namespace {

using ::testing::HasSubstr;

struct Pair {
  Descriptor one, other;
};

Pair Connected() {
  auto listener = Listen(/*loopback=*/true, 1);
  EXPECT_TRUE(listener.ok()) << listener.status();
  Pair pair;
  pair.one = Connect("127.0.0.1", listener->port, 5);
  pair.other = Accept(*listener, 5);
  EXPECT_GE(pair.one.get(), 0);
  EXPECT_GE(pair.other.get(), 0);
  return pair;
}

TEST(NetworkTest, NobodyThereIsNoConnection) {
  int port = 0;
  {
    auto listener = Listen(true, 1);
    ASSERT_TRUE(listener.ok());
    port = listener->port;
    EXPECT_LT(Accept(*listener, 0.05).get(), 0);
  }
  EXPECT_LT(Connect("127.0.0.1", port, 1).get(), 0);
  EXPECT_LT(Connect("not an address", port, 1).get(), 0);
}

TEST(NetworkTest, AllAddressesOfThisHostAreServed) {
  auto listener = Listen(/*loopback=*/false, 4);
  ASSERT_TRUE(listener.ok()) << listener.status();
  const auto addresses = OwnAddresses("");
  ASSERT_TRUE(addresses.ok());
  for (const std::string& address : *addresses)
    EXPECT_GE(Connect(address, listener->port, 5).get(), 0) << address;
  EXPECT_GE(Connect("127.0.0.1", listener->port, 5).get(), 0);
}

TEST(NetworkTest, AnInterfaceIsFoundByNameOrRefusedWithThoseThereAre) {
  const auto loopback = OwnAddresses("lo");
  ASSERT_TRUE(loopback.ok()) << loopback.status();
  EXPECT_EQ(loopback->front(), "127.0.0.1");
  const auto wrong = OwnAddresses("ib7");
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(std::string(wrong.status().message()),
              HasSubstr("watchdog.interface: no address on \"ib7\"; rank 0 has lo"));
}

TEST(NetworkTest, MessagesComeWholeHoweverTheyWereCut) {
  Pair pair = Connected();
  Channel channel(std::move(pair.other), 8);
  const std::string bytes = "message1message2mess";
  for (const char c : bytes) ASSERT_TRUE(SendAll(pair.one.get(), &c, 1, 5));
  char message[9] = {};
  for (const char* expected : {"message1", "message2"}) {
    while (!channel.Take(message)) ASSERT_TRUE(channel.Fill());
    EXPECT_STREQ(message, expected);
  }
  EXPECT_FALSE(channel.Take(message));
  pair.one = Descriptor();
  while (channel.Fill()) usleep(1000);
  EXPECT_FALSE(channel.Take(message));
}

TEST(NetworkTest, APeerThatReadsNothingBlocksNobodyAndOneThatIsGoneIsNoticed) {
  Pair pair = Connected();
  Channel channel(std::move(pair.one), 8);
  bool open = true;
  for (int i = 0; i < 100'000 && open; ++i) open = channel.Send("12345678", 8);
  EXPECT_TRUE(open);
  pair.other = Descriptor();
  bool alive = true;
  for (int i = 0; i < 1000 && alive; ++i) {
    alive = channel.Fill() && channel.Send("12345678", 8);
    usleep(1000);
  }
  EXPECT_FALSE(alive);
}

TEST(NetworkTest, HalfAHandshakeTimesOut) {
  Pair pair = Connected();
  ASSERT_TRUE(SendAll(pair.one.get(), "half", 4, 1));
  char whole[8];
  EXPECT_FALSE(ReceiveAll(pair.other.get(), whole, sizeof(whole), 0.1));
}

TEST(IdentityTest, AStoppedProcessIsSeenAndOnlyThatVeryProcessIsKilled) {
  const pid_t child = fork();
  if (child == 0) {
    while (true) pause();
  }
  const ProcessIdentity identity = ProcessIdentity::Of(child);
  EXPECT_GT(identity.started, 1);
  // Of this number, but an earlier process: left alone.
  ProcessIdentity earlier = identity;
  earlier.started = 1;
  KillIfHere(earlier);
  ProcessIdentity elsewhere = identity;
  std::strcpy(elsewhere.boot, "another machine");
  KillIfHere(elsewhere);
  EXPECT_EQ(waitpid(child, nullptr, WNOHANG), 0);

  kill(child, SIGSTOP);
  int status = 0;
  waitpid(child, &status, WUNTRACED);
  EXPECT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WhyNotRunning(earlier), "");
  EXPECT_THAT(WhyNotRunning(identity), HasSubstr("the process is stopped"));
  KillIfHere(identity);
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

}  // namespace
}  // namespace tanren
