/* The strings of the fake: what makes the library say what a test wants, and take its time. */
#ifndef FAKE_BACKEND_H
#define FAKE_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* FAKE BEGIN */
void fake_reset(void); /* everything below off again */
/* the model's next token at lengths base, base + 1 ... */
void fake_script(size_t base, const int32_t* tokens, size_t n);
/* every row of a run, and every weight of a load, takes this long; 0: no time */
void fake_slow(int32_t us);
void fake_lies(uint32_t positions);  /* bit i: every draft at position i of a round is wrong */
void fake_break(int32_t runs);       /* the run behind so many further ones fails; -1: none */
void fake_in_turn(int32_t on);       /* 1: its runs have rows of one sequence */
void fake_no_queues(int32_t on);     /* 1: there is no memory for a queue */
size_t fake_evaluated(void);         /* rows that ended since the reset */
size_t fake_begun(void);             /* rows, and weights of loads, begun since the reset */
void fake_marks(const char* folder); /* "load" and "eval" appear there when one first begins */
/* FAKE END */

#ifdef __cplusplus
}
#endif

#endif
