"""Strings that tokenizers get wrong. CORPUS is what the goldens hold; random_strings() feeds live
comparisons."""

from __future__ import annotations

import random

PROSE = (
    "A pillion is the seat behind the rider. The passenger looks over the shoulder of the one "
    "who steers and guesses where the road will turn next. When the guess is right, both lean "
    "together and lose no time; when it is wrong, the rider corrects it and the passenger starts "
    "again from there. It's plain, isn't it? They'll see; we've seen; I'm sure you'd agree, "
    "they're right.\n\n"
    "The small model reads what the large model has already written down: keys and values, the "
    "last hidden state, the last token. It owes the large model nothing but a guess.\n"
)
CODE = (
    "def verify(draft, truth):\n    n = 0\n"
    "    while n < len(draft) and draft[n] == truth[n]:\n        n += 1\n"
    "    return draft[:n] + [truth[n]]\n\n#include <stdio.h>\n"
    '\tint main(void) {\r\n\t\tprintf("%d\\n", 0x1F);\r\n\t}\r\n'
    "for (auto&& [k, v] : map) { out[k] += v * 2.5e-3; } // ~1,024 -> 2^10 | <= >= != && $x`y`\n"
)

WORLD = [
    "caffè naïve Zürich façade señor Ångström",
    "e\u0301 a\u0308 n\u0303 o\u0302\u0301 \u0301x",
    "Привет, мир! Ёжик",
    "Ἐν ἀρχῇ ἦν ὁ λόγος",
    "東京は日本の首都です。",
    "你好,世界!中文123分词",
    "안녕하세요 세계 한국어",
    "ㅎㅏㄴ 각힣",
    "مرحبا بالعالم ١٢٣",
    "שָׁלוֹם עוֹלָם",
    "नमस्ते दुनिया १२३",
    "สวัสดีชาวโลก",
    "ជំរាបសួរ",
    "🙂",
    "👩‍👩‍👧‍👦 family",
    "🏳️‍🌈🇩🇪🇯🇵",
    "👍🏽👍🏿",
    "a🙂b🙂",
    "❤️ ♥ ★ ☃",
    "①②③ ½ ¾ Ⅷ ⅷ x²",
    "٣٤٥ ४५६ 𝟙𝟚𝟛",
    "ﬁ ﬂ ſ K Å ß ẞ İ ı",
    "'ſ 'S it'S IT'S don'T we'LL 'll '",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "𓀀𓂀 𐍈 \U0001f9ff \U000e0041",
    "\u200b\u200c\u200d\u2060\ufeff",
    "a\u00a0b\u2003c\u3000d\u2028e\u2029f\u0085g\u1680h",
    "\u202eabc\u202c",
    "\ufffd\ufffe\uffff",
    "\U0010ffff\U0010fffe",
    "Ǆ ǅ ǆ ʰ ª º",
    "…—–‘’“”«»„",
    "€£¥₿ %‰ §¶†",
    "\u0301\u0302",
    "ก็ ก้",
]
MARKS = [
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<bos>Hello",
    "<|turn>user\nHi<turn|>\n<|turn>model\n",
    "<|turn>x",
    "x<turn|>y",
    "a<turn|><turn|>b",
    "</s>",
    "<s>",
    "a </s> b",
    "<s>x</s>",
    "<|channel>thought\n<channel|>answer",
    '<|tool_call>call:f{a:<|"|>b<|"|>}<tool_call|>',
    "<|tool_response>",
    '<|"|>',
    "<0x41>",
    "<0x0A>",
    "<0x-1>",
    "<0xZZ>",
    "<unused0>",
    "<|im_start|>user\nhi<|im_end|>",
    "<|endoftext|>",
    "<|turn",
    "turn|>",
    "<<bos>>",
    "<bo<bos>s>",
    "▁",
    "▁▁x",
    "a▁b",
    "\u2581 \u2581",
    "[multimodal]",
    "<start_of_turn>user\n",
    "<end_of_turn>",
    "<|turn> x <turn|> y",
    "\n<turn|>\n",
    "<b>bold</b><table></table>",
    "<SP>",
    "<SP> x",
    "[user]",
    "x[user]y [user]",
]
SHAPES = [
    "",
    " ",
    "  ",
    "a",
    " a",
    "a ",
    " a ",
    "  a",
    "a  b",
    "a   b  c",
    "\t",
    "\t\t",
    "\ta",
    "a\t b",
    " \t ",
    "\n",
    "\r",
    "\r\n",
    "\n ",
    " \n",
    "a\n",
    "a\n\n",
    "\na",
    "a\nb",
    "a \n b",
    "a\r\nb\r\n",
    "\r\n\r\n",
    "\n\r\n\r",
    " \n \n ",
    "a\n  b\n    c",
    "\n\n\n",
    "a\n\n\nb",
    "   \n\n   x",
    "x   \n",
    "x\n   ",
    "\v\f",
    "\x00",
    "a\x00b",
    "\x00\x00",
    "\x01\x02\x7f",
    "0",
    "1",
    "12",
    "123",
    "1234",
    "12345",
    "1234567890",
    "3.14159",
    "1,000,000",
    "007",
    "2024-01-31T23:59:59Z",
    "v1.2.3",
    "0x1F",
    "1e-10",
    "x1y22z333",
    " 1 22 333 4444",
    "I'm",
    "you're",
    "they'll",
    "we've",
    "he'd",
    "it's",
    "can't",
    "'tis",
    "rock 'n' roll",
    "'s",
    " 's",
    "''s",
    "'S",
    "x'",
    "o'clock",
    "'re've'll",
    "Hello, world!",
    "Hello,world",
    "hello  world",
    "HELLO WORLD",
    "helloWorld_fooBar",
    "a.b.c",
    "...",
    "....",
    "!?!?",
    "--",
    "---",
    "(a)",
    "[b]",
    "{c}",
    "a/b\\c",
    "#tag @me",
    "$100",
    "50%",
    "a=b",
    "a==b",
    "a+b",
    "a|b",
    "~a",
    "^a",
    "<a>",
    "`code`",
    '"quoted"',
    "http://example.com/a?b=c&d=e#f",
    "me@example.com",
    "C:\\dir\\file",
    "$$$",
    "+++",
    "<<<>>>",
    "=====",
    "| a | b |",
    "a" * 40,
    "ab" * 30,
    "supercalifragilisticexpialidocious" * 3,
    "ä" * 20,
    "あ" * 20,
    "!" * 30,
    "-" * 50,
    "=" * 70,
    "9" * 25,
    "'" * 9,
    "🙂" * 10,
    "xyzzy" * 12,
]
RUNS = [unit * n for unit in (" ", "\n") for n in (4, 5, 7, 8, 9, 15, 16, 17, 30, 31, 32, 33, 63)]
RUNS += ["x" + " " * n + "y" for n in (1, 2, 3, 4, 8, 15, 16, 31, 32, 33)] + [
    "\t" * 9,
    "x" + "\n" * 6 + "y",
    "\r\n" * 5,
    " \t" * 4,
    "\n " * 5,
]

CORPUS = list(dict.fromkeys([*SHAPES, *RUNS, *WORLD, *MARKS, PROSE, CODE]))

ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz     etaoin",
    "ABCdef 'sStTmMdDlLrReEvV'",
    "0123456789 .,-",
    " \t\n\r\v\f",
    " \n",
    " ",
    "!?.,;:-_()[]{}<>|/\\@#$%^&*+=~`\"'",
    "áéíóúñçßøÅ\u0301\u0308",
    "абвгдежз ЁЖ",
    "漢字日本語中文、。",
    "가나다라마각힣 한",
    "🙂👍🏽\u200d❤\ufe0f🇩🇪",
    "\u00a0\u2003\u3000\u2028\u0085\u1680\u200b",
    "١٢٣½²Ⅷ①",
    "\u0300\u0301\u0903\u20dd",
    "ſKİıßẞﬁ",
    "▁ ab",
    '<>|/sbounteracl"',
    "\x00\x01\x1b\x7f\x9f",
    "𝔘𓀀𐍈\U0001f9ff\U0010ffff",
]


def random_strings(n: int, seed: int, longest: int = 60) -> list[str]:
    """Mixed scripts; the same for a seed on every machine."""
    rng = random.Random(seed)
    words = PROSE.split(" ") + CODE.split(" ") + MARKS
    out = []
    for _ in range(n):
        text = ""
        for _ in range(rng.randrange(1, 9)):
            kind = rng.random()
            if kind < 0.35:
                text += rng.choice(["", " ", " ", "\n"]) + rng.choice(words)
            elif kind < 0.45:
                text += chr(
                    rng.choice([rng.randrange(0x80, 0xD800), rng.randrange(0xE000, 0x110000)])
                )
            else:
                alphabet = rng.choice(ALPHABETS)
                text += "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 12)))
        out.append(text[:longest])
    return out
