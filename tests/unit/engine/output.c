// Tests of what an engine's gens say: the same whatever runs beside them, right logprobs, every way
// to end. Real model, CPU operations.
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine_rig.h"
#include "mem.h"

static const int LENGTHS[] = {150, 1, 64, 65, 260, 7, 128, 63, 130, 2, 31, 20, 129, 16, 90, 12};
enum { N_OTHERS = sizeof LENGTHS / sizeof *LENGTHS };

// Settings of neighbour i: all kinds side by side.
static struct gen_params other(int i, const int *prompt)
{
    struct gen_params p = rig_params(prompt, LENGTHS[i], 5 + i);
    p.sampling.temperature = i % 3 ? 0.8f : 0;
    p.sampling.seed = (uint64_t)i;
    p.sampling.repetition = i % 4 ? 1 : 1.2f;
    p.logprobs = i % 2 ? 5 : -1;
    p.prompt_logprobs = i % 5 == 1;
    return p;
}

static void run_alone(struct client *c, const struct rig_options *o, const struct gen_params *p)
{
    struct rig r;
    rig_open(&r, o);
    client_run(c, &r, p);
    rig_close(&r);
}

static void run_among_others(struct client *c, const struct rig_options *o,
                             const struct gen_params *p)
{
    struct rig r;
    struct client *others = mem_zero(N_OTHERS, sizeof *others);
    int *prompts[N_OTHERS];
    rig_open(&r, o);
    for (int i = 0; i < N_OTHERS; i++) {
        prompts[i] = rig_prompt(LENGTHS[i], 100 + (unsigned)i);
        const struct gen_params q = other(i, prompts[i]);
        if (i == N_OTHERS / 2)
            client_start(c, &r, p);
        client_start(&others[i], &r, &q);
    }
    client_finish(c);
    cr_assert(eq(int, (int)c->status.state, GEN_DONE), "%s", c->status.err.text);
    for (int i = 0; i < N_OTHERS; i++) {
        client_finish(&others[i]);
        cr_assert(eq(int, (int)others[i].status.state, GEN_DONE), "%s", others[i].status.err.text);
        client_drop(&others[i]);
        mem_free(prompts[i]);
    }
    rig_check_empty(&r);
    rig_close(&r);
    mem_free(others);
}

static struct gen_params subject(const int *prompt, float temperature)
{
    struct gen_params p = rig_params(prompt, 200, 16);
    p.sampling.temperature = temperature;
    p.sampling.seed = 11;
    p.logprobs = 4;
    return p;
}

// The same answer alone and among 16 others, in the least budget that is allowed: one chunk of prompt
// a step beside the rows that generate.
static void check_alone_and_among(enum dtype dtype, float temperature)
{
    static struct client alone, among;
    int *prompt = rig_prompt(200, 7);
    const struct gen_params p = subject(prompt, temperature);
    const int seats = N_OTHERS + 1;
    run_alone(&alone, &(struct rig_options){.dtype = dtype}, &p);
    const struct rig_options least = {
        .dtype = dtype, .sequences_max = seats, .batch_tokens = RIG_CHUNK + seats};
    run_among_others(&among, &least, &p);
    client_check_same(&alone, &among, "among 16 others");
    client_drop(&among);
    client_drop(&alone);
    mem_free(prompt);
}

Test(output, greedy_is_the_same_alone_and_among_others)
{
    check_alone_and_among(DTYPE_F32, 0);
}

Test(output, greedy_is_the_same_in_bf16)
{
    check_alone_and_among(DTYPE_BF16, 0);
}

Test(output, greedy_is_the_same_in_int8)
{
    check_alone_and_among(DTYPE_INT8, 0);
}

Test(output, sampled_is_the_same_alone_and_among_others)
{
    check_alone_and_among(DTYPE_F32, 20); // this model is very sure: heat makes it waver
}

Test(output, budget_and_seats_do_not_matter)
{
    static struct client wide, few;
    int *prompt = rig_prompt(200, 7);
    const struct gen_params p = subject(prompt, 0);
    run_among_others(&wide, &(struct rig_options){.sequences_max = N_OTHERS + 1}, &p);
    run_among_others(&few, &(struct rig_options){.sequences_max = 3}, &p);
    client_check_same(&wide, &few, "three at a time");
    client_drop(&wide);
    client_drop(&few);
    mem_free(prompt);
}

Test(output, a_seed_decides)
{
    struct rig r;
    struct client a, b, c;
    int *prompt = rig_prompt(40, 3);
    struct gen_params p = rig_params(prompt, 40, 32);
    rig_open(&r, &(struct rig_options){0});
    p.sampling.temperature = 20;
    p.sampling.seed = 5;
    client_run(&a, &r, &p);
    client_run(&b, &r, &p);
    client_check_same(&a, &b, "same seed");
    p.sampling.seed = 6;
    client_run(&c, &r, &p);
    int different = 0;
    for (int i = 0; i < 32; i++)
        different += a.tokens[i].id != c.tokens[i].id;
    cr_assert(gt(int, different, 0), "another seed, the same answer");
    client_drop(&a);
    client_drop(&b);
    client_drop(&c);
    rig_close(&r);
    mem_free(prompt);
}

// Ids of a JSON array.
static int *read_ids(const json_t *array)
{
    size_t n = json_array_size(array);
    int *ids = mem_zero(n, sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = (int)json_integer_value(json_array_get(array, i));
    return ids;
}

// The golden file has float32 results of another implementation, printed with five digits after the
// point; logits reach 80 there, so sums of 256 products differ by some 1e-4.
static const double GOLDEN_TOLERANCE = 2e-3;

static void check_golden_case(struct rig *r, const json_t *golden)
{
    const json_t *logprobs = json_object_get(golden, "prompt_logprobs");
    int *prompt = read_ids(json_object_get(golden, "prompt"));
    int *greedy = read_ids(json_object_get(golden, "greedy"));
    int n = (int)json_array_size(json_object_get(golden, "prompt"));
    int n_greedy = (int)json_array_size(json_object_get(golden, "greedy"));
    static struct client c;
    struct gen_params p = rig_params(prompt, n, n_greedy);
    p.logprobs = 0;
    p.prompt_logprobs = json_is_array(logprobs);
    client_run(&c, r, &p);
    for (int i = 0; i < n_greedy; i++)
        cr_assert(eq(int, c.tokens[i].id, greedy[i]), "prompt of %d, token %d", n, i);
    const struct gen_token *own = gen_prompt_tokens(c.g);
    for (int i = 1; i < n && p.prompt_logprobs; i++) {
        cr_assert(eq(int, own[i].id, prompt[i]));
        cr_assert(epsilon_eq(dbl, (double)own[i].logprob,
                             json_number_value(json_array_get(logprobs, (size_t)i)),
                             GOLDEN_TOLERANCE),
                  "prompt of %d, token %d", n, i);
    }
    client_drop(&c);
    mem_free(prompt);
    mem_free(greedy);
}

static void check_golden(const char *model)
{
    char path[512];
    struct rig r;
    snprintf(path, sizeof path, "%s/tests/golden/%s/golden.json", TEST_SOURCE_DIR, model);
    json_t *golden = json_load_file(path, 0, NULL);
    cr_assert(ne(ptr, golden, NULL), "%s", path);
    rig_open(&r, &(struct rig_options){.model = model, .context_max = 4096});
    const json_t *cases = json_object_get(golden, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_golden_case(&r, json_array_get(cases, i));
    rig_close(&r);
    json_decref(golden);
}

Test(output, prompt_logprobs_and_greedy_equal_golden)
{
    check_golden("dense_a");
}

Test(output, prompt_logprobs_and_greedy_equal_golden_ratio3)
{
    check_golden("ratio3");
}

Test(output, prompt_logprobs_do_not_depend_on_rows)
{
    struct rig r;
    static struct client wide, narrow;
    int *prompt = rig_prompt(400, 9);
    struct gen_params p = rig_params(prompt, 400, 3);
    p.logprobs = 2;
    p.prompt_logprobs = true;
    rig_open(&r, &(struct rig_options){0});
    client_run(&wide, &r, &p);
    rig_close(&r);
    rig_open(&r, &(struct rig_options){.batch_rows = RIG_CHUNK + 8});
    client_run(&narrow, &r, &p);
    rig_close(&r);
    client_check_same(&wide, &narrow, "few rows a step");
    const struct gen_token *a = gen_prompt_tokens(wide.g), *b = gen_prompt_tokens(narrow.g);
    cr_assert(isnan(a[0].logprob));
    for (int i = 1; i < 400; i++) {
        cr_assert(zero(memcmp(&a[i].logprob, &b[i].logprob, sizeof(float))), "token %d", i);
        for (int j = 0; j < 2; j++)
            cr_assert(zero(memcmp(&a[i].top[j], &b[i].top[j], sizeof a[i].top[j])), "token %d", i);
    }
    client_drop(&wide);
    client_drop(&narrow);
    mem_free(prompt);
}

Test(output, no_tokens_but_the_prompts_logprobs)
{
    struct rig r;
    static struct client c, one;
    int *prompt = rig_prompt(100, 4);
    struct gen_params p = rig_params(prompt, 100, 0);
    p.logprobs = 1;
    p.prompt_logprobs = true;
    rig_open(&r, &(struct rig_options){0});
    client_run(&c, &r, &p);
    cr_assert(eq(int, c.status.n_output, 0));
    cr_assert(eq(int, (int)c.status.finish, GEN_FINISH_LENGTH));
    cr_assert(lt(flt, gen_prompt_tokens(c.g)[99].logprob, 0));
    p.n_prompt = 1; // nothing to predict, nothing to generate
    client_run(&one, &r, &p);
    cr_assert(isnan(gen_prompt_tokens(one.g)[0].logprob));
    client_drop(&c);
    client_drop(&one);
    rig_check_empty(&r);
    rig_close(&r);
    mem_free(prompt);
}

Test(output, logprobs_are_sorted_and_hold_the_chosen_one)
{
    struct rig r;
    static struct client c;
    int *prompt = rig_prompt(20, 5);
    struct gen_params p = rig_params(prompt, 20, 12);
    p.logprobs = LOGPROBS_MAX;
    rig_open(&r, &(struct rig_options){0});
    client_run(&c, &r, &p);
    for (int i = 0; i < 12; i++) {
        const struct gen_token *t = &c.tokens[i];
        double sum = 0;
        cr_assert(eq(int, t->top[0].id, t->id)); // greedy
        cr_assert(zero(memcmp(&t->top[0].logprob, &t->logprob, sizeof(float))));
        for (int j = 0; j < LOGPROBS_MAX; j++) {
            sum += exp((double)t->top[j].logprob);
            if (j > 0)
                cr_assert(le(flt, t->top[j].logprob, t->top[j - 1].logprob));
        }
        cr_assert(le(dbl, sum, 1 + 1e-5));
    }
    client_drop(&c);
    rig_close(&r);
    mem_free(prompt);
}

Test(output, logprobs_are_those_before_bias_and_penalties)
{
    struct rig r;
    static struct client plain, biased;
    int *prompt = rig_prompt(20, 5);
    struct gen_params p = rig_params(prompt, 20, 1);
    p.logprobs = 3;
    rig_open(&r, &(struct rig_options){0});
    client_run(&plain, &r, &p);
    const struct gen_top second = plain.tokens[0].top[1];
    p.bias_ids = &second.id;
    p.bias = (float[]){100};
    p.n_bias = 1;
    p.sampling.repetition = 1.3f;
    client_run(&biased, &r, &p);
    cr_assert(eq(int, biased.tokens[0].id, second.id), "the bias had no effect");
    cr_assert(zero(memcmp(&biased.tokens[0].logprob, &second.logprob, sizeof(float))));
    for (int j = 0; j < 3; j++)
        cr_assert(zero(
            memcmp(&biased.tokens[0].top[j], &plain.tokens[0].top[j], sizeof(struct gen_top))));
    client_drop(&plain);
    client_drop(&biased);
    rig_close(&r);
    mem_free(prompt);
}

Test(output, penalties_see_the_history)
{
    struct rig r;
    static struct client c;
    int *prompt = rig_prompt(30, 5);
    struct gen_params p = rig_params(prompt, 30, 60);
    rig_open(&r, &(struct rig_options){0});
    p.sampling.frequency = 1000; // each id once at most
    client_run(&c, &r, &p);
    for (int i = 0; i < 60; i++)
        for (int j = 0; j < i; j++)
            cr_assert(ne(int, c.tokens[i].id, c.tokens[j].id), "tokens %d and %d", j, i);
    client_drop(&c);
    rig_close(&r);
    mem_free(prompt);
}

Test(output, a_stop_id_ends_it)
{
    struct rig r;
    static struct client c, cut;
    int *prompt = rig_prompt(20, 6);
    struct gen_params p = rig_params(prompt, 20, 40);
    p.sampling.frequency = 1000;
    rig_open(&r, &(struct rig_options){0});
    client_run(&c, &r, &p);
    p.stop_ids[0] = c.tokens[30].id;
    p.stop_ids[1] = c.tokens[5].id;
    p.n_stop_ids = 2;
    client_run(&cut, &r, &p);
    cr_assert(eq(int, cut.status.n_output, 6));
    cr_assert(eq(int, (int)cut.status.finish, GEN_FINISH_STOP));
    cr_assert(eq(int, cut.status.stop_id, c.tokens[5].id));
    client_drop(&c);
    client_drop(&cut);
    rig_close(&r);
    mem_free(prompt);
}

// The bundled model is made to say its end id at once.
Test(output, the_models_end_id_ends_it_unless_ignored)
{
    struct rig r;
    static struct client c;
    const int prompt[] = {100, 101, 102};
    rig_open(&r, &(struct rig_options){.model = "bundled", .dtype = DTYPE_BF16, .text = true});
    const struct config *config = engine_config(r.en);
    cr_assert(gt(int, config->n_eos, 0));
    struct gen_params p = rig_params(prompt, 3, 4);
    p.bias_ids = config->eos;
    p.bias = (float[]){1000};
    p.n_bias = 1;
    client_run(&c, &r, &p);
    cr_assert(eq(int, (int)c.status.finish, GEN_FINISH_STOP));
    cr_assert(eq(int, c.status.stop_id, config->eos[0]));
    cr_assert(eq(int, c.status.n_output, 1));
    cr_assert(eq(sz, c.text.n, 0));
    client_drop(&c);
    p.ignore_eos = true;
    client_run(&c, &r, &p);
    cr_assert(eq(int, (int)c.status.finish, GEN_FINISH_LENGTH));
    cr_assert(eq(int, c.status.n_output, 4));
    cr_assert(eq(int, c.status.stop_id, -1));
    client_drop(&c);
    rig_close(&r);
}

Test(output, a_stop_string_ends_it)
{
    struct rig r;
    static struct client c, cut;
    int *prompt = rig_prompt(20, 8);
    struct gen_params p = rig_params(prompt, 20, 60);
    p.sampling.frequency = 1000;
    rig_open(&r, &(struct rig_options){.text = true});
    client_run(&c, &r, &p);
    // Some characters from the middle, whole ones.
    size_t from = c.text.n / 2, to;
    while (((unsigned char)c.text.data[from] & 0xC0) == 0x80)
        from++;
    for (to = from + 4; ((unsigned char)c.text.data[to] & 0xC0) == 0x80;)
        to++;
    char needle[16] = "";
    memcpy(needle, c.text.data + from, to - from);
    const struct detok_stop stop = {needle, to - from};
    p.stops = &stop;
    p.n_stops = 1;
    client_run(&cut, &r, &p);
    size_t want = (size_t)(strstr(c.text.data, needle) - c.text.data);
    cr_assert(eq(sz, cut.text.n, want));
    cr_assert(zero(memcmp(cut.text.n ? cut.text.data : "", c.text.data, want)));
    cr_assert(eq(int, (int)cut.status.finish, GEN_FINISH_STOP));
    cr_assert(eq(int, cut.status.stop, 0));
    cr_assert(lt(int, cut.status.n_output, 60));
    cr_assert(ge(sz, cut.tokens[cut.n - 1].text_end, want + stop.n));
    client_drop(&c);
    client_drop(&cut);
    rig_close(&r);
    mem_free(prompt);
}
