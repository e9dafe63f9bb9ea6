// eval_score.h - logits of one setting against those of the reference, token by token. Job thread.
#ifndef EVAL_SCORE_H
#define EVAL_SCORE_H

#include <stdint.h>

enum { SCORE_TOP = 5 };

// The reference's view of the tokens of one piece.
struct scorer {
    int vocab, rows_max, rows;
    float *logits; // [rows, vocab]
    float *share;  // [rows, vocab] probabilities
    double *log_z; // [rows] log of the sum of exp(logits)
    int *top;      // [rows, SCORE_TOP] ids, most likely first
};

struct scorer scorer_open(int vocab, int rows_max);
void scorer_close(struct scorer *s);
void scorer_reference(struct scorer *s, const float *logits, int rows);

// What a setting makes of one token.
struct score {
    double nll, kl; // nats; KL of the reference's distribution from the setting's
    uint8_t top1;   // the most likely token is the reference's
    uint8_t top5;   // how many of the reference's five most likely are among its own five
};

// Of row i; target is the token that came.
struct score scorer_compare(const struct scorer *s, const float *logits, int i, int target);

double score_logprob(const float *logits, int vocab, int id);
int score_argmax(const float *logits, int vocab); // the lowest id on ties

#endif
