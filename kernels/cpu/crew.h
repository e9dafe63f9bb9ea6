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

int crew_threads(const struct crew *c); // as asked for

// What a loop does with item i. worker: 0 for the caller, 1 .. threads - 1 for helpers; no two run with
// the same number at once, so it may index scratch.
typedef void crew_work(void *ud, int i, int worker);

// work(ud, i, worker) once for every i in 0 .. n - 1, in any order. Returns when all are done. One
// caller at a time.
void crew_run(struct crew *c, int n, crew_work *work, void *ud);

#endif
