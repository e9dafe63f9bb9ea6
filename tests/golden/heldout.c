// heldout.c - see heldout.h.
#include "heldout.h"

#include "golden_file.h"
#include "mem.h"

int heldout_read(struct heldout *h, const struct tokenizer *tk, size_t tokens_max, struct err *e)
{
    size_t n = 0;
    *h = (struct heldout){0};
    char *text = read_text(TEST_SOURCE_DIR "/tests/data/heldout.txt", &n, e);
    if (!text)
        return -1;
    int rc = tokenizer_encode(tk, text, n, 0, &h->ids, e);
    mem_free(text);
    h->ids.n = h->ids.n < tokens_max ? h->ids.n : tokens_max;
    for (size_t i = 1; i < h->ids.n; i++) {
        tokenizer_bytes(tk, h->ids.data[i], &n);
        h->bytes += (double)n;
    }
    return rc;
}

void heldout_fini(struct heldout *h)
{
    ids_fini(&h->ids);
}

void heldout_run(struct rig *r, const struct heldout *h, bool generated,
                 void (*row)(void *ud, int i, const float *logits, int vocab), void *ud)
{
    int n = (int)h->ids.n, most = generated ? 1 : RIG_BATCH_TOKENS;
    rig_reset(r);
    for (int i = 0; i < n; i += most) {
        int t = n - i < most ? n - i : most;
        const struct feed f = {.ids = h->ids.data + i,
                               .t = t,
                               .decode = generated,
                               .all = !generated,
                               .last = generated};
        const float *logits = rig_step(r, &f, 1);
        for (int j = 0; j < t && i + j + 1 < n; j++)
            row(ud, i + j, logits + (size_t)j * (size_t)r->vocab, r->vocab);
    }
}
