// ops.c - the few facts about types that every backend and the model share.
#include "ops.h"

#include <string.h>

size_t dtype_bytes(enum dtype type)
{
    static const size_t BYTES[] = {
        [DTYPE_F32] = 4, [DTYPE_F16] = 2, [DTYPE_BF16] = 2, [DTYPE_INT8] = 1, [DTYPE_INT32] = 4};
    return BYTES[type];
}

enum dtype dtype_half(enum dtype act)
{
    return act == DTYPE_F16 ? DTYPE_F16 : DTYPE_BF16;
}

const char *dtype_name(enum dtype type)
{
    static const char *const NAMES[] = {[DTYPE_F32] = "f32",
                                        [DTYPE_F16] = "f16",
                                        [DTYPE_BF16] = "bf16",
                                        [DTYPE_INT8] = "int8",
                                        [DTYPE_INT32] = "int32"};
    return NAMES[type];
}

bool dtype_named(const char *name, enum dtype *type)
{
    for (int i = DTYPE_F32; i <= DTYPE_INT32; i++)
        if (!strcmp(name, dtype_name((enum dtype)i))) {
            *type = (enum dtype)i;
            return true;
        }
    return false;
}
