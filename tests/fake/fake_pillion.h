/* A fake for the library behind pillion.h, for tests of the Python layer: the whole ABI over a
 * toy model, deterministic and quick, with strings (below) to make it fail, dawdle or say what a
 * test wants.
 *
 * Model file: a text file whose first line is "fake". Each further line "key=value" is metadata;
 * the value is JSON, or a string when it begins with '"'. Keys of effect: fake.arch, fake.suppress
 * (a token), fake.drafter (an assistant; its gemma4-assistant.embedding_length_out must be 8 if it
 * has one), fake.head ("centroid", "dense"). Tokenizer: bytes are tokens 0..255; 256 <bos>, 257
 * <eos>, 258 <turn>, 259 </turn> (ends too), 260 <image>. Next token: the script's where there is
 * one; else the letter after the last one ('z' is followed by 'a', all else by 'a'). Drafters know
 * the next token, unless fake_lies() has them say '!' instead.
 */
#ifndef FAKE_PILLION_H
#define FAKE_PILLION_H

#include "pillion.h"

/* FAKE BEGIN */
void fake_reset(void); /* everything below off again */
void fake_script(size_t base, const int32_t* tokens,
                 size_t n); /* the model's next token at lengths base, base + 1 ... */
void fake_fail(const char* function, int32_t code,
               const char* sentence); /* the next call of `function` fails */
void fake_slow(
    int32_t us_per_token); /* every evaluated token, and every tenth of a load, takes this long */
void fake_log(int32_t level,
              const char* message);  /* sends a message to the sink, from a thread of its own */
void fake_lies(uint32_t positions);  /* bit i: every draft at position i of a round is wrong */
size_t fake_live(void);              /* objects not freed */
size_t fake_evaluated(void);         /* tokens run since the reset */
size_t fake_begun(void);             /* tokens and tenths of loads begun since the reset */
void fake_marks(const char* folder); /* "load" and "eval" appear there when one first begins */
/* FAKE END */

#endif
