// todo.cu - operations that another branch is writing; goes away before this lands on main.
#include "ops_cuda.cuh"
#define TODO(op)                                                                                   \
    void cuda_##op(struct dev *dev, const struct op##_args *)                                      \
    {                                                                                              \
        cuda_fail(dev, #op " is not written yet");                                                 \
    }
TODO(embed)
TODO(rmsnorm)
TODO(linear)
TODO(attn_prep)
TODO(attention)
TODO(conv)
TODO(delta_rule)
TODO(delta_decode)
TODO(quantize)
TODO(fill)
TODO(gated_norm)
TODO(silu_mul)
TODO(gather)
TODO(sample)
TODO(logprobs)
