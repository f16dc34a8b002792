// Every format of a record, and every way in which one can be wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/status.h"
#include "core/examples/read_examples.h"

namespace tanren {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr MessageRole kSystem = MessageRole::kSystem;
constexpr MessageRole kUser = MessageRole::kUser;
constexpr MessageRole kAssistant = MessageRole::kAssistant;

Example Parse(std::string_view json, std::optional<ExampleFormat> format = std::nullopt) {
  absl::StatusOr<Example> example = ParseExample(json, format);
  EXPECT_TRUE(example.ok()) << json << "\n" << example.status();
  return example.ok() ? *std::move(example) : Example{};
}

std::string Problem(std::string_view json, std::optional<ExampleFormat> format = std::nullopt) {
  const absl::StatusOr<Example> example = ParseExample(json, format);
  EXPECT_TRUE(absl::IsInvalidArgument(example.status())) << json;
  return std::string(View(example.status().message()));
}

TEST(PromptCompletion, StringsAndMessages) {
  Example e = Parse(R"({"prompt":"2+2?","completion":" 4","answer":4,"weight":0.5,"id":7,"kind":"sum"})");
  EXPECT_EQ(e.format, ExampleFormat::kPromptCompletion);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "2+2?"}));
  EXPECT_THAT(e.responses, ElementsAre(" 4"));
  EXPECT_EQ(e.answer, "4");
  EXPECT_EQ(e.weight, 0.5);
  EXPECT_EQ(e.id, "7");
  EXPECT_EQ(e.kind, "sum");
  e = Parse(R"({"question":"q","response":"r","system":"Be brief."})");
  EXPECT_THAT(e.prompt, ElementsAre(Message{kSystem, "Be brief."}, Message{kUser, "q"}));
  e = Parse(R"({"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b","train":false},
                {"role":"user","content":"c"}],"completion":"d"})");
  EXPECT_THAT(e.prompt,
              ElementsAre(Message{kUser, "a"}, Message{kAssistant, "b", false}, Message{kUser, "c"}));
}

TEST(PromptCompletion, AFinalEndOfTextIsCut) {
  const Example e = Parse(R"({"prompt":"p","completion":"a <|endoftext|> b<|endoftext|>"})");
  EXPECT_THAT(e.responses, ElementsAre("a <|endoftext|> b"));
  EXPECT_THAT(Parse(R"({"prompt":"p","completion":"<|endoftext|>"})").responses, ElementsAre(""));
  EXPECT_THAT(Problem(R"({"prompt":"p","completion":""})"), StartsWith("empty response: completion"));
}

TEST(PromptCompletion, WorkedAnswersOfGsm8k) {
  const std::string line = R"({"question":"q","answer":"2+2=4\nSo 4.\n#### 4"})";
  Example e = Parse(line);
  EXPECT_EQ(e.format, ExampleFormat::kPromptCompletion);
  EXPECT_THAT(e.responses, ElementsAre("2+2=4\nSo 4.\n#### 4"));
  EXPECT_EQ(e.answer, "4");
  e = Parse(line, ExampleFormat::kAnswer);
  EXPECT_TRUE(e.responses.empty());
  EXPECT_EQ(e.answer, "4");
  EXPECT_THAT(Problem(R"({"question":"q","answer":"2+2=4\n####  "})"), StartsWith("empty answer"));
}

TEST(PromptCompletion, MultipleChoice) {
  const Example e = Parse(R"({"q_id":3,"question":"Which?","choice0":"sun","choice1":"moon","label":1})");
  EXPECT_EQ(e.format, ExampleFormat::kPromptCompletion);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "Which?\n- sun\n- moon"}));
  EXPECT_THAT(e.responses, ElementsAre("moon"));
  EXPECT_EQ(e.answer, "moon");
  for (const std::string label : {"2", "-1", "18446744073709551615", "9223372036854775808"}) {
    EXPECT_THAT(Problem(R"({"question":"Which?","choice0":"sun","choice1":"moon","label":)" + label + "}"),
                StartsWith("bad label: " + label));
  }
  EXPECT_THAT(Problem(R"({"question":"Which?","choice0":"sun","label":"sun"})"),
              StartsWith("wrong type: label"));
}

TEST(Messages, UpToTheLastLearntAnswer) {
  Example e = Parse(R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},
      {"role":"assistant","content":"b","weight":0},{"role":"user","content":"c"},
      {"role":"assistant","content":"d"},{"role":"user","content":"thanks"}]})");
  EXPECT_EQ(e.format, ExampleFormat::kMessages);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kSystem, "s"}, Message{kUser, "a"},
                                    Message{kAssistant, "b", false}, Message{kUser, "c"}));
  EXPECT_THAT(e.responses, ElementsAre("d"));
  e = Parse(R"({"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]})");
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "a"}));
  EXPECT_THAT(e.responses, ElementsAre("b"));
}

TEST(Messages, Damage) {
  EXPECT_THAT(Problem(R"({"messages":[]})"), StartsWith("empty conversation"));
  EXPECT_THAT(Problem(R"({"messages":"hello"})"), StartsWith("wrong type: messages"));
  EXPECT_THAT(Problem(R"({"messages":["hello"]})"), StartsWith("wrong type: messages.0"));
  EXPECT_THAT(Problem(R"({"messages":[{"role":"tool","content":"x"}]})"),
              StartsWith("bad role: messages.0.role is \"tool\""));
  EXPECT_THAT(Problem(R"({"messages":[{"role":"user","content":"x"},{"role":"system","content":"x"}]})"),
              StartsWith("bad role: messages.1"));
  EXPECT_THAT(Problem(R"({"messages":[{"role":"user","content":"x"}]})"), StartsWith("no answer"));
  EXPECT_THAT(Problem(R"({"messages":[{"role":"assistant","content":"x","train":false}]})"),
              StartsWith("no answer"));
  EXPECT_THAT(Problem(R"({"messages":[{"role":"assistant","content":" "}]})"), StartsWith("empty response"));
  EXPECT_THAT(Problem(R"({"messages":[{"role":"user"}]})"),
              StartsWith("missing field: the record has no messages.0.content"));
  EXPECT_THAT(Problem(R"({"messages":[{"role":"user","content":3}]})"),
              StartsWith("wrong type: messages.0.content is not a text but number"));
  EXPECT_THAT(Problem(R"({"system":"a","messages":[{"role":"system","content":"b"},
                          {"role":"assistant","content":"c"}]})"),
              StartsWith("bad role"));
}

TEST(Preference, StringsAndMessages) {
  Example e = Parse(R"({"prompt":"p","chosen":"good","rejected":"poor","margin":1.5})");
  EXPECT_EQ(e.format, ExampleFormat::kPreference);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "p"}));
  EXPECT_THAT(e.responses, ElementsAre("good", "poor"));
  EXPECT_THAT(e.ranks, ElementsAre(1, 2));
  EXPECT_EQ(e.margin, 1.5);
  const std::string lists = R"("chosen":[{"role":"user","content":"p"},{"role":"assistant","content":"good"}],
                            "rejected":[{"role":"user","content":"p"},{"role":"assistant","content":"poor"}]})";
  for (const std::string prompt : {"{", R"({"prompt":"p",)"}) {
    e = Parse(prompt + lists);
    EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "p"}));
    EXPECT_THAT(e.responses, ElementsAre("good", "poor"));
  }
  EXPECT_THAT(Problem(R"({"prompt":"other",)" + lists), StartsWith("different beginnings"));
}

TEST(Ranking, OfChoicesTheRightOneIsAboveTheOthers) {
  const Example e =
      Parse(R"({"question":"Which?","choice0":"sun","choice1":"moon","choice2":"sea","label":1})",
            ExampleFormat::kRanking);
  EXPECT_EQ(e.format, ExampleFormat::kRanking);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "Which?\n- sun\n- moon\n- sea"}));
  EXPECT_THAT(e.responses, ElementsAre("sun", "moon", "sea"));
  EXPECT_THAT(e.ranks, ElementsAre(2, 1, 2));
  EXPECT_EQ(e.answer, "moon");
  EXPECT_THAT(Problem(R"({"question":"Which?","choice0":"sun","label":0})", ExampleFormat::kRanking),
              StartsWith("too few responses"));
}

TEST(ExampleFormatByName, KnowsEveryName) {
  for (const ExampleFormat format :
       {ExampleFormat::kRanking, ExampleFormat::kPromptCompletion, ExampleFormat::kText}) {
    const auto found = ExampleFormatByName(NameOf(format));
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(*found, format);
  }
  EXPECT_EQ(*ExampleFormatByName("by_content"), std::nullopt);
  EXPECT_THAT(std::string(View(ExampleFormatByName("rankings").status().message())),
              HasSubstr("format rankings is none of by_content, ranking, preference"));
}

TEST(Preference, HumanAndAssistantInOneString) {
  const Example e = Parse(R"({"chosen":"\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant: good",
                           "rejected":"\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant: poor"})");
  EXPECT_EQ(e.format, ExampleFormat::kPreference);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "a\n\nb"}, Message{kAssistant, "c"}, Message{kUser, "d"}));
  EXPECT_THAT(e.responses, ElementsAre("good", "poor"));
  // With a prompt of its own the text is an answer like any other.
  EXPECT_THAT(Parse(R"({"prompt":"p","chosen":"\n\nHuman: a","rejected":"b"})").responses,
              ElementsAre("\n\nHuman: a", "b"));
}

TEST(Preference, Damage) {
  EXPECT_THAT(Problem(R"({"prompt":"p","chosen":"a"})"), HasSubstr("rejected"));
  EXPECT_THAT(Problem(R"({"prompt":"p","rejected":"a"})"), HasSubstr("chosen"));
  EXPECT_THAT(Problem(R"({"prompt":"p","chosen":"a","rejected":"a"})"), StartsWith("equal sides"));
  EXPECT_THAT(Problem(R"({"prompt":"p","chosen":"a","rejected":""})"),
              StartsWith("empty response: rejected"));
  EXPECT_THAT(Problem(R"({"prompt":"p","chosen":1,"rejected":"b"})"), StartsWith("wrong type: chosen"));
  EXPECT_THAT(
      Problem(R"({"chosen":"\n\nHuman: a\n\nAssistant: b","rejected":"\n\nHuman: c\n\nAssistant: d"})"),
      StartsWith("different beginnings"));
  EXPECT_THAT(Problem(R"({"chosen":"\n\nHuman: a","rejected":"\n\nHuman: a\n\nAssistant: d"})"),
              StartsWith("no answer: chosen"));
  EXPECT_THAT(Problem(R"({"chosen":"\n\nHuman: a\n\nAssistant:","rejected":"\n\nHuman: a\n\nAssistant: d"})"),
              StartsWith("empty response"));
}

TEST(Ranking, NumbersAndLetters) {
  const std::string responses = R"({"prompt":"p","responses":["a","b","c"],"ranking":)";
  const Example e = Parse(responses + "[2,1,2]}");
  EXPECT_EQ(e.format, ExampleFormat::kRanking);
  EXPECT_THAT(e.responses, ElementsAre("a", "b", "c"));
  EXPECT_THAT(e.ranks, ElementsAre(2, 1, 2));
  EXPECT_THAT(Parse(responses + R"("B > A = C"})").ranks, ElementsAre(2, 1, 2));
  EXPECT_THAT(Parse(responses + R"("C>B>A"})").ranks, ElementsAre(3, 2, 1));
}

TEST(Ranking, OfEqualResponsesOneStays) {
  Example e = Parse(R"({"prompt":"p","responses":["a","b","a","c","b"],"ranking":[4,1,4,2,1],"margin":0.5})");
  EXPECT_THAT(e.responses, ElementsAre("a", "b", "c"));
  EXPECT_THAT(e.ranks, ElementsAre(3, 1, 2));
  EXPECT_EQ(e.margin, 0.5);
  e = Parse(R"({"question":"Which?","choice0":"sun","choice1":"moon","choice2":"sun","label":1})",
            ExampleFormat::kRanking);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "Which?\n- sun\n- moon\n- sun"}));
  EXPECT_THAT(e.responses, ElementsAre("sun", "moon"));
  EXPECT_THAT(e.ranks, ElementsAre(2, 1));
}

TEST(Ranking, NoTextIsBetterThanItself) {
  EXPECT_THAT(Problem(R"({"prompt":"p","responses":["a","b","a"],"ranking":[1,2,3]})"),
              StartsWith("equal sides: responses.0 and responses.2 are the same text, at the ranks 1 and 3"));
  EXPECT_THAT(Problem(R"({"prompt":"p","responses":["b","a","a"],"ranking":"B > A = C"})"),
              StartsWith("equal sides: responses.1 and responses.2"));
  EXPECT_THAT(Problem(R"({"prompt":"p","responses":["a","a"],"ranking":[1,2]})"), StartsWith("equal sides"));
  EXPECT_THAT(Problem(R"({"prompt":"p","responses":["a","a"],"ranking":[1,1]})"),
              StartsWith("no preference"));
  const std::string choices = R"({"question":"Which?","choice0":"sun","choice1":"sun","label":1})";
  EXPECT_THAT(Problem(choices, ExampleFormat::kRanking),
              StartsWith("equal sides: choice0 and choice1 are the same text, at the ranks 2 and 1"));
  EXPECT_THAT(Parse(choices).responses, ElementsAre("sun"));
}

TEST(Ranking, Damage) {
  const std::string responses = R"({"prompt":"p","responses":["a","b","c"],"ranking":)";
  for (const std::string bad : {"[1,2]", "[0,1,2]", "[1,2,4]", "[1,1.5,2]", "[1,2,1e300]"}) {
    EXPECT_THAT(Problem(responses + bad + "}"), StartsWith("no ranking")) << bad;
  }
  for (const std::string bad :
       {"A > B", "A > B > D", "A > B > B", "A > B > C >", "", "> A", "A B C", "A > b > C"}) {
    EXPECT_THAT(Problem(responses + "\"" + bad + "\"}"), StartsWith("no permutation")) << bad;
  }
  EXPECT_THAT(Problem(responses + "[2,2,2]}"), StartsWith("no preference"));
  EXPECT_THAT(Problem(responses + R"("A=B=C"})"), StartsWith("no preference"));
  EXPECT_THAT(Problem(responses + R"(["x",1,2]})"), StartsWith("wrong type: ranking"));
  EXPECT_THAT(Problem(responses + "7}"), StartsWith("wrong type: ranking"));
  std::string many = "\"a\"";
  for (int i = 0; i < 26; ++i) many += ",\"a\"";
  EXPECT_THAT(Problem(R"({"prompt":"p","responses":[)" + many + R"(],"ranking":"A > B"})"),
              StartsWith("no ranking: 27 responses are more than there are letters"));
  EXPECT_THAT(Problem(R"({"prompt":"p","responses":["a"],"ranking":[1]})"), StartsWith("too few responses"));
  EXPECT_THAT(Problem(R"({"prompt":"p","responses":["a",""],"ranking":[1,2]})"),
              StartsWith("empty response: responses.1"));
  EXPECT_THAT(Problem(R"({"responses":["a","b"],"ranking":[1,2]})"), HasSubstr("prompt"));
}

TEST(OtherFormats, AreRecognised) {
  for (const auto& [label, good] : std::vector<std::pair<std::string, bool>>{{"true", true},
                                                                             {"1", true},
                                                                             {R"("good")", true},
                                                                             {"false", false},
                                                                             {"0", false},
                                                                             {R"("bad")", false}}) {
    const Example e = Parse(R"({"prompt":"p","completion":"c","label":)" + label + "}");
    EXPECT_EQ(e.format, ExampleFormat::kLabelled);
    EXPECT_EQ(e.label, good) << label;
  }
  Example e = Parse(R"({"prompt":"p","completions":["a","b"]})");
  EXPECT_EQ(e.format, ExampleFormat::kReferences);
  EXPECT_THAT(e.responses, ElementsAre("a", "b"));
  e = Parse(R"({"instruction":"Sort.","input":"b a","output":"a b"})");
  EXPECT_EQ(e.format, ExampleFormat::kAlpaca);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "Sort.\n\nb a"}));
  EXPECT_THAT(Parse(R"({"instruction":"Sing.","input":"","output":"la"})").prompt,
              ElementsAre(Message{kUser, "Sing."}));
  e = Parse(
      R"({"instruction":"Sort.","instances":[{"input":"b a","output":"a b"},{"input":"b a","output":"a, b"}]})");
  EXPECT_EQ(e.format, ExampleFormat::kAlpaca);
  EXPECT_THAT(e.prompt, ElementsAre(Message{kUser, "Sort.\n\nb a"}));
  EXPECT_THAT(e.responses, ElementsAre("a b", "a, b"));
  e = Parse(R"({"question":"2+2","answer":4})");
  EXPECT_EQ(e.format, ExampleFormat::kAnswer);
  EXPECT_EQ(e.answer, "4");
  EXPECT_TRUE(e.responses.empty());
  e = Parse(R"({"text":"Once."})");
  EXPECT_EQ(e.format, ExampleFormat::kText);
  EXPECT_TRUE(e.prompt.empty());
  EXPECT_THAT(e.responses, ElementsAre("Once."));
}

TEST(OtherFormats, AGivenFormatIsTaken) {
  const std::string line = R"({"prompt":"p","completion":"c","label":true,"text":"t"})";
  EXPECT_EQ(Parse(line).format, ExampleFormat::kLabelled);
  EXPECT_THAT(Parse(line, ExampleFormat::kText).responses, ElementsAre("t"));
  EXPECT_THAT(Parse(line, ExampleFormat::kPromptCompletion).responses, ElementsAre("c"));
  EXPECT_THAT(Problem(line, ExampleFormat::kMessages), StartsWith("missing field"));
}

TEST(Damage, OfAnyRecord) {
  EXPECT_THAT(Problem("{\"text\":\"a"), StartsWith("not JSON"));
  EXPECT_THAT(Problem(""), StartsWith("not JSON"));
  EXPECT_THAT(Problem("[1]"), StartsWith("not an object"));
  EXPECT_THAT(Problem("{}"), StartsWith("unknown format: the record has no field"));
  EXPECT_THAT(Problem(R"({"body":"x"})"), StartsWith("unknown format: the record has body"));
  EXPECT_THAT(Problem("{\"text\":\"a\xff\"}"), StartsWith("not UTF-8: byte 10 of the line is 0xff"));
  EXPECT_THAT(Problem(std::string_view("{\"text\":\"a\0\"}", 13)), StartsWith("NUL in text: byte 10"));
  EXPECT_THAT(Problem(R"({"text":"a\u0000"})"), StartsWith("NUL in text: text holds"));
  EXPECT_THAT(Problem(R"({"text":"\ud800"})"), StartsWith("not JSON"));
  EXPECT_THAT(Problem(R"({"text":"a","weight":-1})"), StartsWith("bad weight: -1"));
  EXPECT_THAT(Problem(R"({"text":"a","weight":"1"})"), StartsWith("wrong type: weight"));
  EXPECT_THAT(Problem(R"({"prompt":"p","chosen":"a","rejected":"b","margin":-1e39})"),
              StartsWith("bad margin: -1e+39"));
  EXPECT_THAT(Problem(R"({"prompt":"p","completion":"c","label":"ugly"})"), StartsWith("bad label: ugly"));
  EXPECT_THAT(Problem(R"({"prompt":"p","completions":[]})"), StartsWith("empty response"));
  EXPECT_THAT(Problem(R"({"prompt":"p","answer":""})"), StartsWith("empty answer"));
  EXPECT_THAT(Problem(R"({"prompt":7,"completion":"c"})"), StartsWith("wrong type: prompt"));
  EXPECT_THAT(
      Problem(R"({"instruction":"i","instances":[{"input":"a","output":"b"},{"input":"c","output":"d"}]})"),
      StartsWith("several inputs: instances.1"));
  // Nesting beyond any reason is refused or ignored, never a crash.
  const std::string deep(200000, '[');
  EXPECT_THAT(Problem(R"({"text":)" + deep), StartsWith("not JSON"));
  EXPECT_THAT(Problem(R"({"prompt":"p","completion":"c","label":)" + deep + std::string(200000, ']') + "}"),
              StartsWith("wrong type: label"));
  EXPECT_THAT(Problem(R"({"text":)" + deep + std::string(200000, ']') + "}"), StartsWith("wrong type: text"));
}

}  // namespace
}  // namespace tanren
