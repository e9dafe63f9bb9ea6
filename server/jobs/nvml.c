// nvml.c - see nvml.h. The few declarations of NVML's stable interface that are used stand here, so that
// building needs no CUDA.
#include "nvml.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>

enum { NVML_SUCCESS = 0, CLOCK_SM = 1, CLOCK_MEMORY = 2, TEMPERATURE_GPU = 0, TEXT_MAX = 96 };

struct nvml {
    void *library, *device;
};

static void *find(const struct nvml *n, const char *name)
{
    return dlsym(n->library, name);
}

static void nvml_close(struct nvml *n)
{
    int (*shutdown)(void) = NULL;
    if (n->library) {
        *(void **)&shutdown = find(n, "nvmlShutdown");
        if (shutdown)
            shutdown();
        dlclose(n->library);
    }
}

static bool nvml_open(struct nvml *n, int index)
{
    int (*init)(void) = NULL;
    int (*handle)(unsigned, void **) = NULL;
    *n = (struct nvml){.library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)};
    if (!n->library)
        return false;
    *(void **)&init = find(n, "nvmlInit_v2");
    *(void **)&handle = find(n, "nvmlDeviceGetHandleByIndex_v2");
    if (init && handle && init() == NVML_SUCCESS &&
        handle((unsigned)index, &n->device) == NVML_SUCCESS)
        return true;
    nvml_close(n);
    return false;
}

static json_t *text_of(const struct nvml *n, const char *name)
{
    int (*get)(void *, char *, unsigned) = NULL;
    char text[TEXT_MAX] = "";
    *(void **)&get = find(n, name);
    if (!get || get(n->device, text, sizeof text) != NVML_SUCCESS)
        return json_null();
    text[sizeof text - 1] = '\0';
    return json_string(text);
}

static json_t *driver_of(const struct nvml *n)
{
    int (*get)(char *, unsigned) = NULL;
    char text[TEXT_MAX] = "";
    *(void **)&get = find(n, "nvmlSystemGetDriverVersion");
    if (!get || get(text, sizeof text) != NVML_SUCCESS)
        return json_null();
    text[sizeof text - 1] = '\0';
    return json_string(text);
}

static json_t *memory_of(const struct nvml *n)
{
    int (*get)(void *, unsigned long long *) = NULL; // total, free, used
    unsigned long long memory[3] = {0};
    *(void **)&get = find(n, "nvmlDeviceGetMemoryInfo");
    if (!get || get(n->device, memory) != NVML_SUCCESS)
        return json_null();
    return json_integer((json_int_t)memory[0]);
}

// A figure that is chosen by a number.
static json_t *chosen(const struct nvml *n, const char *name, int which)
{
    int (*get)(void *, int, unsigned *) = NULL;
    unsigned value = 0;
    *(void **)&get = find(n, name);
    if (!get || get(n->device, which, &value) != NVML_SUCCESS)
        return json_null();
    return json_integer(value);
}

static json_t *power_of(const struct nvml *n)
{
    int (*get)(void *, unsigned *) = NULL;
    unsigned milliwatts = 0;
    *(void **)&get = find(n, "nvmlDeviceGetPowerUsage");
    if (!get || get(n->device, &milliwatts) != NVML_SUCCESS)
        return json_null();
    return json_real(milliwatts / 1e3);
}

// Which of the driver's reasons hold now; an idle clock is no throttling.
static json_t *throttle_of(const struct nvml *n)
{
    static const struct {
        unsigned long long bit;
        const char *name;
    } REASONS[] = {{0x2, "applications_clocks"}, {0x4, "sw_power_cap"},    {0x8, "hw_slowdown"},
                   {0x10, "sync_boost"},         {0x20, "sw_thermal"},     {0x40, "hw_thermal"},
                   {0x80, "hw_power_brake"},     {0x100, "display_clocks"}};
    int (*get)(void *, unsigned long long *) = NULL;
    unsigned long long bits = 0;
    *(void **)&get = find(n, "nvmlDeviceGetCurrentClocksThrottleReasons");
    if (!get || get(n->device, &bits) != NVML_SUCCESS)
        return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof REASONS / sizeof *REASONS; i++)
        if (bits & REASONS[i].bit)
            json_array_append_new(list, json_string(REASONS[i].name));
    return list;
}

json_t *nvml_device(int index)
{
    struct nvml n;
    if (!nvml_open(&n, index))
        return json_null();
    json_t *out = json_pack("{s:o, s:o, s:o, s:o}", "name", text_of(&n, "nvmlDeviceGetName"),
                            "driver", driver_of(&n), "uuid", text_of(&n, "nvmlDeviceGetUUID"),
                            "memory_bytes", memory_of(&n));
    nvml_close(&n);
    return out;
}

json_t *nvml_clocks(int index)
{
    struct nvml n;
    if (!nvml_open(&n, index))
        return json_null();
    json_t *out = json_pack(
        "{s:o, s:o, s:o, s:o, s:o}", "sm_mhz", chosen(&n, "nvmlDeviceGetClockInfo", CLOCK_SM),
        "memory_mhz", chosen(&n, "nvmlDeviceGetClockInfo", CLOCK_MEMORY), "power_w", power_of(&n),
        "temperature_c", chosen(&n, "nvmlDeviceGetTemperature", TEMPERATURE_GPU),
        "throttle_reasons", throttle_of(&n));
    nvml_close(&n);
    return out;
}
