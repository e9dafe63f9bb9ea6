// nvml.h - clocks, power and throttling of NVIDIA devices, from the driver's library if the machine has
// one (looked for at run time: the program needs none). Any thread.
#ifndef NVML_H
#define NVML_H

#include <jansson.h>

// {"name", "driver", "uuid", "memory_bytes"} and {"sm_mhz", "memory_mhz", "power_w", "temperature_c",
// "throttle_reasons"} of device `index` in the driver's order; new references, null without a driver
// or without that device. Members that the device does not tell are null.
json_t *nvml_device(int index);
json_t *nvml_clocks(int index);

#endif
