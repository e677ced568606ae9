/* The strings by which tests pull the stand-in library. What it does without them: fake_pillion.c. */
#ifndef FAKE_PILLION_H
#define FAKE_PILLION_H

#include "pillion.h"

/* FAKE BEGIN */
void fake_reset(void);                                             /* everything below off again */
void fake_script(size_t base, const int32_t* tokens, size_t n);    /* the model's next token at lengths base, base + 1 ... */
void fake_fail(const char* function, int32_t code, const char* sentence);    /* the next call of `function` fails */
void fake_slow(int32_t us_per_token);                              /* every evaluated token, and every tenth of a load, takes this long */
void fake_log(int32_t level, const char* message);                 /* sends a message to the sink, from a thread of its own */
void fake_lies(uint32_t positions);                                 /* bit i: every draft at position i of a round is wrong */
size_t fake_live(void);                                            /* objects not freed */
size_t fake_evaluated(void);                                       /* tokens run since the reset */
size_t fake_begun(void);                                           /* tokens and tenths of loads begun since the reset */
void fake_marks(const char* folder);                               /* "load" and "eval" appear there when one first begins */
/* FAKE END */

#endif
