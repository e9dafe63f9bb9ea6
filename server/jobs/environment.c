// environment.c - see environment.h.
#define _GNU_SOURCE
#include "environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "ceilings.h"
#include "device_sync.h"
#include "machine.h"
#include "nvml.h"
#include "result_doc.h"

// --- the machine ----------------------------------------------------------------------------

// The first line of a file, without its end; "" when it cannot be read.
static void read_line(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    *text = '\0';
    if (f && fgets(text, (int)size, f))
        text[strcspn(text, "\n")] = '\0';
    if (f)
        fclose(f);
}

static json_t *line_of(const char *path)
{
    char text[160];
    read_line(path, text, sizeof text);
    return *text ? json_string(text) : json_null();
}

// What /proc/cpuinfo says of the processors: the model, and the clocks now.
struct processors {
    char model[128];
    int n;
    double mhz_min, mhz_max, mhz_sum;
};

static struct processors read_processors(void)
{
    struct processors p = {.model = "unknown"};
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[512];
    while (f && fgets(line, sizeof line, f)) {
        const char *value = strchr(line, ':');
        line[strcspn(line, "\n")] = '\0';
        if (!value)
            continue;
        if (!strncmp(line, "model name", 10))
            snprintf(p.model, sizeof p.model, "%.120s", value + 2);
        if (strncmp(line, "cpu MHz", 7))
            continue;
        const double mhz = strtod(value + 1, NULL);
        p.mhz_min = p.n == 0 || mhz < p.mhz_min ? mhz : p.mhz_min;
        p.mhz_max = mhz > p.mhz_max ? mhz : p.mhz_max;
        p.mhz_sum += mhz;
        p.n++;
    }
    if (f)
        fclose(f);
    return p;
}

static json_t *describe_cpu(void)
{
    const struct processors p = read_processors();
    return json_pack("{s:s, s:i, s:o, s:o}", "model", p.model, "cores",
                     (int)sysconf(_SC_NPROCESSORS_ONLN), "governor",
                     line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "smt",
                     line_of("/sys/devices/system/cpu/smt/active"));
}

static json_t *describe_os(void)
{
    struct utsname u;
    if (uname(&u))
        return json_null();
    return json_sprintf("%s %s %s", u.sysname, u.release, u.machine);
}

// Clocks and loads at this moment; of the GPU too where there is one.
static json_t *read_clocks(const struct job_node *node)
{
    const struct processors p = read_processors();
    double loads[3] = {0};
    struct timespec now;
    char when[32] = "";
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &utc))
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    const int n_loads = getloadavg(loads, 3);
    const bool cpu = !strcmp(node->ops->name, "cpu");
    return json_pack(
        "{s:s, s:o, s:o, s:o}", "time", when, "cpu_mhz",
        p.n ? json_pack("[f, f, f]", p.mhz_min, p.mhz_sum / p.n, p.mhz_max) : json_null(), "load",
        n_loads == 3 ? json_pack("[f, f, f]", loads[0], loads[1], loads[2]) : json_null(), "gpu",
        cpu ? json_null() : nvml_clocks(0));
}

// --- ceilings -------------------------------------------------------------------------------

// Engine thread. A ceiling that cannot be measured for want of memory is left out: 0.
static int measure(void *ud, const struct ops *ops, struct dev *dev, struct model *m, struct err *e)
{
    struct ceilings *c = ud;
    char why[256];
    (void)m;
    if (!strcmp(ops->name, "cpu")) {
        const struct machine machine = machine_measure(0);
        *c = (struct ceilings){machine.copy_bytes_per_s, machine.flops_per_s};
        return 0;
    }
    c->copy_bytes_s = ceiling_copy(ops, dev, why, sizeof why);
    if (*why)
        return device_failure(ops, dev, why, e);
    c->flops_s = ceiling_product(ops, dev, dtype_half(ops->act(dev)), why, sizeof why);
    return *why ? device_failure(ops, dev, why, e) : 0;
}

// --- the document ---------------------------------------------------------------------------

static json_t *describe_model(const struct job_node *node)
{
    const struct model_options *o = node->model_options;
    const struct config *c = node->config;
    char inverse[64];
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:s, s:i, s:I}", "id", node->model_id,
                     "dtype", dtype_name(o->dtype), "state_dtype", dtype_name(o->state_dtype),
                     "layers", c->num_hidden_layers, "hidden", c->hidden_size, "vocabulary",
                     c->vocab_size, "chunk", o->chunk, "inverse",
                     inverse_name(&o->inverse, inverse, sizeof inverse), "context_max",
                     o->context_max, "parameters", (json_int_t)node->memory->n_params);
}

// What flops_s is the rate of.
static json_t *describe_flops(const struct job_node *node)
{
    if (!strcmp(node->ops->name, "cpu"))
        return json_string("float32 multiply-adds on registers");
    return json_sprintf("a large %s product", dtype_name(dtype_half(node->model_options->dtype)));
}

static json_t *describe_build(void)
{
#ifdef __OPTIMIZE__
    const int optimized = 1;
#else
    const int optimized = 0;
#endif
    return json_pack("{s:s, s:b}", "compiler", __VERSION__, "optimized", optimized);
}

json_t *environment_collect(struct job_run *run, struct ceilings *out, struct err *e)
{
    const struct job_node *node = job_run_node(run);
    const bool cpu = !strcmp(node->ops->name, "cpu");
    int contended = 0;
    json_t *clocks = read_clocks(node); // before the ceilings make it warm
    *out = (struct ceilings){0};
    job_run_progress(run, 0, 0, "", "ceilings", "copy bandwidth and multiply-add rate");
    if (job_run_device(run, measure, out, &contended, e)) {
        json_decref(clocks);
        return NULL;
    }
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:{s:s, s:s, s:o}, s:o, s:o, s:{s:o, s:o, s:o, s:b}, s:o}", "version",
        node->version, "commit", node->commit, "build", describe_build(), "model",
        describe_model(node), "device", "name", node->device, "backend", node->ops->name, "nvml",
        cpu ? json_null() : nvml_device(0), "cpu", describe_cpu(), "os", describe_os(), "ceilings",
        "copy_bytes_s", doc_number(out->copy_bytes_s), "flops_s", doc_number(out->flops_s),
        "flops_of", describe_flops(node), "contended", contended > 0, "clocks_before", clocks);
}

void environment_finish(const struct job_node *node, json_t *environment)
{
    json_object_set_new(environment, "clocks_after", read_clocks(node));
}
