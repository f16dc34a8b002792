#include "core/report/metrics_server.h"

#include <httplib.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "core/activity/activity.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using testing::HasSubstr;
using testing::Not;

std::unique_ptr<MetricsServer> StartServer(MetricsServer::Options options = {}) {
  absl::StatusOr<std::unique_ptr<MetricsServer>> server = MetricsServer::Start(options);
  EXPECT_TRUE(server.ok()) << server.status();
  return *std::move(server);
}

TEST(PrometheusText, NamesTypesAndNumbers) {
  const std::string text =
      PrometheusText({{"loss", 0.1}, {"tokens", 4096}, {"kl/ref", std::nan("")}, {"worst", -HUGE_VAL}},
                     {{"stage", "sft"}, {"run_directory", "a \"b\\\nc"}});
  EXPECT_THAT(text, HasSubstr("# TYPE tanren_loss gauge\ntanren_loss 0.10000000000000001\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE tanren_tokens_total counter\ntanren_tokens_total 4096\n"));
  EXPECT_THAT(text, HasSubstr("tanren_kl_ref NaN\n"));
  EXPECT_THAT(text, HasSubstr("tanren_worst -Inf\n"));
  EXPECT_THAT(text, HasSubstr("tanren_run_info{stage=\"sft\",run_directory=\"a \\\"b\\\\\\nc\"} 1\n"));
}

TEST(MetricsServer, ServesTheNewestFigures) {
  const auto server = StartServer();
  httplib::Client client("127.0.0.1", server->port());
  auto response = client.Get("/metrics");
  ASSERT_TRUE(response);
  EXPECT_THAT(response->body, Not(HasSubstr("tanren_loss")));
  server->Update(MetricsRecord(7).Add("loss", 2.5).Add("lr", 0.5));
  server->Update(MetricsRecord(8).Add("loss", 1.25));
  response = client.Get("/metrics");
  ASSERT_TRUE(response);
  EXPECT_EQ(response->status, 200);
  EXPECT_THAT(response->get_header_value("Content-Type"), HasSubstr("version=0.0.4"));
  EXPECT_THAT(response->body, HasSubstr("tanren_step 8\n"));
  EXPECT_THAT(response->body, HasSubstr("tanren_loss 1.25\n"));
  EXPECT_THAT(response->body, HasSubstr("tanren_lr 0.5\n"));
  EXPECT_EQ(client.Get("/else")->status, 404);
  EXPECT_EQ(client.Post("/metrics", "x", "text/plain")->status, 404);
}

TEST(MetricsServer, SaysThatNothingIsDone) {
  MetricsServer::Options options;
  options.stall_seconds = 0.2;
  const auto server = StartServer(options);
  httplib::Client client("127.0.0.1", server->port());
  Activity::Own().Tick();
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_EQ(client.Get("/health")->status, 200);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const auto response = client.Get("/health");
  EXPECT_EQ(response->status, 503);
  const nlohmann::json health = nlohmann::json::parse(response->body);
  EXPECT_EQ(health["status"], "stalled");
  EXPECT_GT(health["seconds_without_progress"].get<double>(), 0.2);
  Activity::Own().Tick();
  std::this_thread::sleep_for(std::chrono::milliseconds(120));
  EXPECT_EQ(client.Get("/health")->status, 200);
}

TEST(MetricsServer, OnePortServesOneRun) {
  const auto server = StartServer();
  MetricsServer::Options second;
  second.port = server->port();
  const auto refused = MetricsServer::Start(second);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("log.metrics_port: port "));
}

TEST(MetricsServer, EndsAtOnceAndGivesThePortBack) {
  int port = 0;
  {
    const auto server = StartServer();
    port = server->port();
  }
  MetricsServer::Options again;
  again.port = port;
  EXPECT_TRUE(MetricsServer::Start(again).ok());
}

}  // namespace
}  // namespace tanren
