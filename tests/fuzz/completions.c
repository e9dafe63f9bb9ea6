// completions.c - any bytes as the body of /v1/completions: refused as the client's fault, or a request
// that the engine can run as it stands.
#include "../support/fuzz_params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    fuzz_params(completions_parse, data, n);
    return 0;
}
