// ops_cuda.cuh - the CUDA backend's own device: one stream, cuBLAS handles, scratch, the first failure.
// Private to kernels/cuda; everyone else sees struct dev through ops.h.
//
// Owner and thread: the thread that opened the device. Everything is enqueued on one stream; nothing
// waits but download() and sync(). A failure is kept and comes out of sync(); CUDA's own are sticky.
#ifndef OPS_CUDA_CUH
#define OPS_CUDA_CUH

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "ops.h"
#include "ptx.cuh"

// Scratch of the operations, by user: two that run one after another may share a slot only if neither
// leaves anything in it for the other.
enum cuda_slot {
    CUDA_SLOT_LINEAR_X,   // linear: rounded rows of x
    CUDA_SLOT_LINEAR_SUM, // linear: int32 sums
    CUDA_SLOT_BLAS,       // workspace of the library
    CUDA_SLOT_DELTA,      // delta_rule: what its kernels hand on
    CUDA_SLOT_DELTA_2,
    CUDA_SLOT_DELTA_CARRY, // delta_rule: states between slabs, where slots keep bf16
    CUDA_SLOT_INVERSE,     // tri_inverse: intermediates of the library's products
    CUDA_SLOT_INVERSE_2,
    CUDA_SLOT_ATTENTION, // attention: partial results of a split context
    CUDA_SLOT_SAMPLE,    // sample, logprobs
    CUDA_SLOTS
};

struct cuda_graphs; // graphs.cu

struct cuda {
    int index, n_sm, arch; // arch: 90 for 9.0
    int sm_shared;         // bytes of shared memory of a multiprocessor
    size_t memory, l2_bytes;
    enum dtype act;
    cudaStream_t stream;
    cudaStream_t
        chain_stream; // delta_rule: of a higher priority, joined with stream when it returns
    cudaEvent_t prepared[2], chained[2];
    cublasHandle_t blas;
    cublasLtHandle_t blas_lt;
    char name[256];

    struct {
        void *p;
        size_t bytes;
    } scratch[CUDA_SLOTS];
    bool warm;   // no scratch grows any more
    bool settle; // the next cuda_launch waits for all that came before it, see cuda_settle

    char *staging; // pinned ring through which uploads and downloads go
    size_t staging_at;

    bool failed;
    char failure[256];

    struct cuda_graphs *graphs;
    void *linear; // linear.cu's own
    void (*linear_free)(void *linear);
};

// sm_shared of sm_90 and sm_100, which the kernels of few rows are laid out for.
constexpr int SM_SHARED = 228 << 10;

static inline struct cuda *cuda_of(struct dev *dev)
{
    return (struct cuda *)dev;
}

// Keeps the first failure for sync(). printf-like.
void cuda_fail(struct dev *dev, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Keep a failure of the runtime or of cuBLAS; true when there is none. what names the call.
bool cuda_ok(struct dev *dev, cudaError_t error, const char *what);
bool cuda_blas_ok(struct dev *dev, cublasStatus_t status, const char *what);

// At least `bytes` of device memory, 256-aligned, contents undefined, kept until close. NULL when memory
// is out or the device is warm (nothing is allocated after a server is ready): the failure is kept.
// Never call it while a step is recorded for a size that the same step did not ask for before.
void *cuda_scratch(struct dev *dev, enum cuda_slot slot, size_t bytes);

// After every launch: keeps the launch's failure.
#define LAUNCHED(dev, kernel) cuda_ok(dev, cudaGetLastError(), kernel)

// After an operation that writes what others take for constant (weights): the next kernel begins when
// everything before it has ended. Without it a kernel may read weights before griddepcontrol_wait().
static inline void cuda_settle(struct dev *dev)
{
    cuda_of(dev)->settle = true;
}

struct cuda_shape {
    dim3 grid, block;
    size_t shared = 0;
    unsigned cluster = 1; // blocks along x that share their memories
};

// Launches `kernel` so that it may begin while the kernel before it still runs (programmatic dependent
// launch, from sm_90): a short kernel's start then hides behind its predecessor. Such a kernel must
//   call griddepcontrol_wait() in every block before it reads what an earlier kernel wrote or writes
//   anything;
//   call griddepcontrol_launch_dependents() as early as it likes: it only lets the next one's blocks in
//   where there is room.
// Works inside a recorded step too, and with any shared memory that a block can have. Keeps the launch's
// failure, named by `what`.
template <typename... P, typename... A>
static inline void cuda_launch(struct dev *dev, const char *what, const struct cuda_shape &shape,
                               void (*kernel)(P...), A... args)
{
    struct cuda *cuda = cuda_of(dev);
    if (shape.shared &&
        !cuda_ok(dev,
                 cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      (int)shape.shared),
                 what))
        return;
    cudaLaunchAttribute attributes[2];
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared;
    config.stream = cuda->stream;
    config.attrs = attributes;
    if (cuda->arch >= 90 && !cuda->settle) {
        attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (shape.cluster > 1) {
        attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[config.numAttrs++].val.clusterDim = {shape.cluster, 1, 1};
    }
    cuda->settle = false;
    cuda_ok(dev, cudaLaunchKernelEx(&config, kernel, P(args)...), what);
}

// Runs `statement` with `act_t` as the device's type of activations.
#define ACT_SWITCH(dev, statement)                                                                 \
    do {                                                                                           \
        if (cuda_of(dev)->act == DTYPE_BF16) {                                                     \
            using act_t = bf16;                                                                    \
            statement;                                                                             \
        } else if (cuda_of(dev)->act == DTYPE_F16) {                                               \
            using act_t = f16;                                                                     \
            statement;                                                                             \
        } else {                                                                                   \
            using act_t = float;                                                                   \
            statement;                                                                             \
        }                                                                                          \
    } while (0)

// The device's 16-bit type of weights and pages, which half_t is below.
static inline enum dtype cuda_half(struct dev *dev)
{
    return dtype_half(cuda_of(dev)->act);
}
template <typename act_t> using half_of = std::conditional_t<std::is_same_v<act_t, f16>, f16, bf16>;

#define HALF_SWITCH(dev, statement)                                                                \
    do {                                                                                           \
        if (cuda_half(dev) == DTYPE_F16) {                                                         \
            using half_t = f16;                                                                    \
            statement;                                                                             \
        } else {                                                                                   \
            using half_t = bf16;                                                                   \
            statement;                                                                             \
        }                                                                                          \
    } while (0)

// ACT_SWITCH with `state_t` as `type`, F32 or BF16, of recurrent states.
#define STATE_SWITCH(type, statement)                                                              \
    do {                                                                                           \
        if ((type) == DTYPE_BF16) {                                                                \
            using state_t = bf16;                                                                  \
            statement;                                                                             \
        } else {                                                                                   \
            using state_t = float;                                                                 \
            statement;                                                                             \
        }                                                                                          \
    } while (0)

__device__ __forceinline__ float to_float(float x)
{
    return x;
}
__device__ __forceinline__ float to_float(bf16 x)
{
    return __bfloat162float(x);
}
__device__ __forceinline__ float to_float(f16 x)
{
    return __half2float(x);
}
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x)
{
    return __float2bfloat16_rn(x);
}
template <> __device__ __forceinline__ f16 from_float<f16>(float x)
{
    return __ushort_as_half((unsigned short)cvt_x2<f16>(x, 0.0f));
}

// x, and of f16, where a product of the library may have left an infinity, no more than f16 can hold. Every reader
// of projections that would make a NaN of an infinity holds them; held_float reads and holds.
template <typename act_t> __device__ __forceinline__ float held_by(float x)
{
    return std::is_same_v<act_t, f16> ? fminf(fmaxf(x, -65504.0f), 65504.0f) : x;
}
template <typename act_t> __device__ __forceinline__ float held_float(act_t x)
{
    return held_by<act_t>(to_float(x));
}

static inline unsigned blocks_for(size_t n, unsigned each)
{
    return (unsigned)((n + each - 1) / each);
}

#define X(op) void cuda_##op(struct dev *dev, const struct op##_args *a);
OPS(X)
#undef X

// tri_inverse_any.cu, tri_inverse_cublas.cu: the fused executor for settings other than the default, and
// the executor of that name; arguments are checked, the residual is the caller's to note.
void cuda_tri_inverse_any(struct dev *dev, const struct tri_inverse_args *a);
void cuda_tri_inverse_cublas(struct dev *dev, const struct tri_inverse_args *a);

// graphs.cu: recorded steps.
bool cuda_step_begin(struct dev *dev, const struct step_key *key);
void cuda_step_end(struct dev *dev);
void cuda_graphs_forget(struct cuda_graphs *graphs); // NULL is fine; every key is new again
void cuda_graphs_free(struct cuda_graphs *graphs);

#endif
