// http_load.c - see http_load.h. libcurl's multi interface: one thread, one event loop.
#define _GNU_SOURCE
#include "http_load.h"

#include <curl/curl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "buf.h"
#include "clock.h"
#include "json.h"
#include "mem.h"
#include "sample_stats.h"

enum { LINE_MAX_BYTES = 1 << 20, WAIT_MS = 20, CONNECT_TIMEOUT_S = 10 };

struct transfer;

struct loader {
    struct job_run *run;
    struct load_step *step;
    CURLM *multi;
    struct curl_slist *headers;
    char url[300];
    int64_t begun_ns;
    int sent, in_flight;
    struct transfer *first; // under way
};

// One request under way.
struct transfer {
    struct loader *loader;
    struct load_answer *answer;
    CURL *easy;
    char *body;
    struct buf line; // what has come of the line under way
    int64_t from_ns, last_ns;
    bool ended; // [DONE] was seen
    struct transfer *next;
};

// --- the answer -----------------------------------------------------------------------------

static void note_gap(struct load_step *s, double ms)
{
    if (s->n_gaps == s->gaps_max) {
        s->gaps_max = s->gaps_max ? 2 * s->gaps_max : 1024;
        s->gaps_ms = mem_resize(s->gaps_ms, (size_t)s->gaps_max, sizeof *s->gaps_ms);
    }
    s->gaps_ms[s->n_gaps++] = ms;
}

static void take_event(struct transfer *t, const char *data, size_t n)
{
    struct err e;
    if (n >= 6 && !strncmp(data, "[DONE]", 6)) {
        t->ended = true;
        return;
    }
    json_t *root = json_parse(data, n, 16, &e);
    const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    const int tokens = (int)json_array_size(json_object_get(choice, "token_ids"));
    json_decref(root);
    if (tokens == 0)
        return;
    const int64_t now_ns = clock_ns();
    if (t->answer->tokens == 0)
        t->answer->ttft_ms = clock_ms_between(t->from_ns, now_ns);
    else
        note_gap(t->loader->step, clock_ms_between(t->last_ns, now_ns));
    t->answer->tokens += tokens;
    t->last_ns = now_ns;
    t->loader->step->events++;
}

// Lines of a stream of events; comments and other fields say nothing here.
static size_t on_bytes(char *bytes, size_t size, size_t n, void *ud)
{
    static const char DATA[] = "data: ";
    struct transfer *t = ud;
    n *= size;
    for (size_t i = 0; i < n;) {
        const char *end = memchr(bytes + i, '\n', n - i);
        const size_t part = end ? (size_t)(end - (bytes + i)) : n - i;
        if (!buf_add(&t->line, bytes + i, part))
            return 0; // ends the transfer
        i += part + (end != NULL);
        if (!end)
            break;
        if (t->line.n > sizeof DATA - 1 && !strncmp(t->line.data, DATA, sizeof DATA - 1))
            take_event(t, t->line.data + sizeof DATA - 1, t->line.n - (sizeof DATA - 1));
        buf_clear(&t->line);
    }
    return n;
}

// --- the requests ---------------------------------------------------------------------------

// A prompt of ids: none is met twice but for the shared beginning.
static char *make_body(const struct loader *l, int i)
{
    const struct load_step *s = l->step;
    const int vocab = job_run_node(l->run)->config->vocab_size;
    uint64_t shared = s->seed, own = s->seed + (uint64_t)i * 0x10001 + 1;
    struct buf b = {0};
    buf_str(&b, "{\"prompt\":[");
    for (int k = 0; k < s->requests[i].prompt; k++)
        buf_format(&b, "%s%d", k ? "," : "",
                   (int)(stat_uniform(k < s->shared_prefix ? &shared : &own) * vocab));
    buf_format(&b,
               "],\"max_tokens\":%d,\"stream\":true,\"ignore_eos\":true,\"temperature\":0,"
               "\"return_token_ids\":true}",
               s->requests[i].output);
    return buf_take(&b);
}

static int begin(struct loader *l, int i, struct err *e)
{
    struct transfer *t = mem_zero(1, sizeof *t);
    t->loader = l;
    t->answer = &l->step->answers[i];
    t->body = make_body(l, i);
    t->line.max = LINE_MAX_BYTES;
    t->easy = curl_easy_init();
    const double at_s = l->step->requests[i].at_s;
    // A request that comes at a time is timed from there, however long it waited to be sent.
    t->from_ns = at_s >= 0 ? l->begun_ns + (int64_t)(at_s * 1e9) : clock_ns();
    if (!t->easy) {
        mem_free(t->body);
        mem_free(t);
        return err_set(e, ERR_INTERNAL, "no HTTP client can be made");
    }
    curl_easy_setopt(t->easy, CURLOPT_URL, l->url);
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, l->headers);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->body);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(t->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    curl_multi_add_handle(l->multi, t->easy);
    t->next = l->first;
    l->first = t;
    l->in_flight++;
    return 0;
}

static void end(struct loader *l, struct transfer *t)
{
    CURL *easy = t->easy;
    struct transfer **at = &l->first;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &t->answer->status);
    t->answer->done = t->ended && t->answer->status == 200 && t->answer->tokens > 0;
    t->answer->e2e_ms = clock_ms_between(t->from_ns, clock_ns());
    curl_multi_remove_handle(l->multi, easy);
    curl_easy_cleanup(easy);
    buf_fini(&t->line);
    mem_free(t->body);
    mem_free(t);
    l->in_flight--;
}

static double seconds_of(const struct loader *l)
{
    return clock_ms_between(l->begun_ns, clock_ns()) / 1e3;
}

// Every request whose time has come, while there are places.
static int send_due(struct loader *l, struct err *e)
{
    const struct load_step *s = l->step;
    while (l->sent < s->n && l->in_flight < s->in_flight_max &&
           s->requests[l->sent].at_s <= seconds_of(l)) {
        if (begin(l, l->sent, e))
            return -1;
        l->sent++;
    }
    return 0;
}

// How long nothing need be sent.
static int next_ms(const struct loader *l)
{
    const struct load_step *s = l->step;
    if (l->sent == s->n || l->in_flight == s->in_flight_max)
        return WAIT_MS;
    const double ms = 1e3 * (s->requests[l->sent].at_s - seconds_of(l));
    return ms < 1 ? 1 : ms > WAIT_MS ? WAIT_MS : (int)ms;
}

static int run_loop(struct loader *l, struct err *e)
{
    struct load_step *s = l->step;
    int running = 0, left = 0, answered = 0;
    while (l->sent < s->n || l->in_flight > 0) {
        if (job_run_cancelled(l->run))
            return err_set(e, ERR_CANCELLED, "stopped under load");
        if (seconds_of(l) > s->seconds_max) {
            s->not_sent = s->n - l->sent + l->in_flight;
            return 0;
        }
        if (send_due(l, e))
            return -1;
        curl_multi_perform(l->multi, &running);
        for (CURLMsg *m; (m = curl_multi_info_read(l->multi, &left));)
            if (m->msg == CURLMSG_DONE) {
                struct transfer *t = NULL;
                curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
                end(l, t);
                answered++;
            }
        job_run_progress(l->run, answered, s->n, "requests", "load", NULL);
        curl_multi_poll(l->multi, NULL, 0, next_ms(l), NULL);
    }
    return 0;
}

// What is still under way when the loop ends early is given up: closing the connection cancels it.
static void give_up(struct loader *l)
{
    while (l->first) {
        l->first->ended = false;
        end(l, l->first);
    }
}

static void set_address(struct loader *l, const struct job_node *node)
{
    const bool v6 = strchr(node->host, ':') != NULL;
    char key[600];
    snprintf(l->url, sizeof l->url, "http://%s%.200s%s:%d/v1/completions", v6 ? "[" : "",
             node->host, v6 ? "]" : "", node->port);
    l->headers = curl_slist_append(NULL, "Content-Type: application/json");
    l->headers = curl_slist_append(l->headers, "Expect:");
    if (node->api_key) {
        snprintf(key, sizeof key, "Authorization: Bearer %.500s", node->api_key);
        l->headers = curl_slist_append(l->headers, key);
    }
}

int load_run(struct job_run *run, struct load_step *s, struct err *e)
{
    struct loader l = {.run = run, .step = s, .multi = curl_multi_init()};
    if (!l.multi)
        return err_set(e, ERR_INTERNAL, "no HTTP client can be made");
    curl_multi_setopt(l.multi, CURLMOPT_MAXCONNECTS, (long)s->in_flight_max);
    set_address(&l, job_run_node(run));
    l.begun_ns = clock_ns();
    const int failed = run_loop(&l, e);
    s->seconds = seconds_of(&l);
    give_up(&l);
    curl_slist_free_all(l.headers);
    curl_multi_cleanup(l.multi);
    return failed;
}
