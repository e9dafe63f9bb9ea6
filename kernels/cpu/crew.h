// crew.h - threads for loops that are over before a sleeping thread has woken: the few-rows product of
// a decode step takes 20 to 200 us, waking a thread 50. Private to kernels/cpu.
//
// The caller works too, and items are claimed one by one, so a helper that comes late, or that the
// system has put aside, takes nothing from anyone: the loop is as fast as those who are there. Helpers
// wait for the next loop with open eyes for a moment (CREW_SPIN), then sleep.
#ifndef CREW_H
#define CREW_H

struct crew;

// threads - 1 helpers, fewer when the system has no more. NULL when memory is out.
struct crew *crew_create(int threads);
void crew_destroy(struct crew *c); // NULL is fine

// work(ud, i) once for every i in 0 .. n - 1, in any order, on the caller's thread and the helpers'.
// Returns when all are done. One caller at a time.
void crew_run(struct crew *c, int n, void (*work)(void *ud, int i), void *ud);

#endif
