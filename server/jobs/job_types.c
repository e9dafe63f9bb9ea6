// job_types.c - the kinds of jobs there are, in the order that GET /v1/job-types lists them. A new kind
// is a word here and a file that defines `const struct job_type <word>_type`.
#include "job_type.h"

#include <string.h>

#define TYPES(X)                                                                                   \
    X(self_test) X(kernel_benchmark) X(model_benchmark) X(serve_benchmark) X(accuracy_report)

#define X(name) extern const struct job_type name##_type;
TYPES(X)
#undef X

const struct job_type *const JOB_TYPES[] = {
#define X(name) &name##_type,
    TYPES(X)
#undef X
};
const int JOB_TYPES_N = sizeof JOB_TYPES / sizeof *JOB_TYPES;

const struct job_type *job_type_find(const char *name)
{
    for (int i = 0; i < JOB_TYPES_N; i++)
        if (!strcmp(JOB_TYPES[i]->name, name))
            return JOB_TYPES[i];
    return NULL;
}
