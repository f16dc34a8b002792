// What a base model reads before it is given instructions: arithmetic said in several ways.
#ifndef TANREN_CORE_CORPUS_SYNTH_PRETRAIN_H_
#define TANREN_CORE_CORPUS_SYNTH_PRETRAIN_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "core/corpus/synth_problems.h"
#include "core/corpus/synth_wordings.h"

namespace tanren {

// Every printable ASCII character and the line feed, as sentences: first in the file, so that a tokenizer of
// characters made from it encodes whatever else is generated.
std::string AlphabetDocument();

enum class ProblemSize : uint8_t {
  kOneDigit,
  kUsual,   // as in questions to learn from
  kLonger,  // an operand with one digit more
};

// One document in a random layout, about problems that `draw` gives; half of them are worked out:
//     7+8=15            Question: 47 + 38 = ?     Work out 47+38.
//     12-7=5            Steps:                    7+8=15, carry 1: 5
//     6*7=42            7+8=15, carry 1: 5        4+3+1=8: 85
//     9+9=18            4+3+1=8: 85               So 47+38=85.
//                       #### 85
//     Ann has 12 apples and gets 7 more. Now Ann has 19 apples.
//     Ann has 12 apples and gets 7 more. How many apples does Ann have? 12+7=19.
//     47 plus 38 makes 85. 5 is what remains of 12 without 7. 6 times 7 makes 42.
// The first is about operands of one digit; of those that are worked out without a question a third are
// longer ones; the last is in the wordings that training may use.
std::string PretrainDocument(absl::FunctionRef<Problem(ProblemKind, ProblemSize)> draw,
                             const Wordings& wordings, RandomStream* random);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SYNTH_PRETRAIN_H_
