"""Makes split_goldens.json: how Hugging Face's `tokenizers` splits awkward text by the published patterns.

Run with the package `tokenizers` (0.23.3 made the committed file): python3 make_split_goldens.py > split_goldens.json
"""
import json

from tokenizers import Regex, pre_tokenizers

TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": HEAD + r"\p{N}{1,3}" + TAIL,
    "qwen": HEAD + r"\p{N}" + TAIL,
}
TEXTS = [
    "",
    "Hello world",
    "I'm you're WE'LL they'D it's 'tis can't",
    "  leading, trailing  ",
    "a  b   c\n\n d\n",
    "tabs\t\tand\r\n\r\nCRLF \r\n x",
    "12345 3.14159 x1y2 \u00bd\u0663\u2167",
    "\u6771\u4eac\u306f\u3001\u65e5\u672c\u306e\u9996\u90fd\u3002\u3000\u5168\u89d2",
    "\u300c\u4f55\uff1f\u300d\n\u3000\u4e8c\u884c\u76ee",
    "na\u00efve cafe\u0301 \u00c5ngstr\u00f6m",
    "emoji \U0001F600\U0001F3FD\u200d\U0001F4BB!!!",
    "\u0085next\u00a0line\u2028sep\u2029par\u1680og\u2003em",
    "mongolian\u180evowel \u180e separator",
    "zero\u200bwidth\ufeffbom",
    "'\u017f long s, \u212aelvin 'S",
    "---***---\n===\n\n\n   \n\tend",
    "http://a.b/c?d=e&f=%20#g",
    "def f(x):\n    return x  # ok\n",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\x1c\x1d\x1e\x1f \x0b\x0c x",
]

result = {}
for name, pattern in PATTERNS.items():
    splitter = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    result[name] = [{"text": t, "pieces": [p for p, _ in splitter.pre_tokenize_str(t)]} for t in TEXTS]
print(json.dumps(result, indent=1))
