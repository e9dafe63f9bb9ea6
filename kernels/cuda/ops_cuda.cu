// ops_cuda.cu - the CUDA table of operations: opening, memory, copies, failures. Each operation has its
// own file.
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ops_cuda.cuh"

static constexpr size_t ALIGN = 256, STAGING_BYTES = 8 << 20;

void cuda_fail(struct dev *dev, const char *format, ...)
{
    struct cuda *cuda = cuda_of(dev);
    if (cuda->failed)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(cuda->failure, sizeof cuda->failure, format, args);
    va_end(args);
    cuda->failed = true;
}

bool cuda_ok(struct dev *dev, cudaError_t error, const char *what)
{
    if (error != cudaSuccess)
        cuda_fail(dev, "%s: %s", what, cudaGetErrorString(error));
    return error == cudaSuccess;
}

bool cuda_blas_ok(struct dev *dev, cublasStatus_t status, const char *what)
{
    if (status != CUBLAS_STATUS_SUCCESS)
        cuda_fail(dev, "%s: %s", what, cublasGetStatusString(status));
    return status == CUBLAS_STATUS_SUCCESS;
}

void *cuda_scratch(struct dev *dev, enum cuda_slot slot, size_t bytes)
{
    struct cuda *cuda = cuda_of(dev);
    if (bytes <= cuda->scratch[slot].bytes)
        return cuda->scratch[slot].p;
    if (cuda->warm) {
        cuda_fail(dev, "scratch %d: %zu bytes wanted after the warm-up, there are %zu", (int)slot,
                  bytes, cuda->scratch[slot].bytes);
        return NULL;
    }
    void *p = NULL;
    const size_t size = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    // The stream may still read the old one; cudaFree waits for it. Recordings hold its address.
    cuda_graphs_forget(cuda->graphs);
    cudaFree(cuda->scratch[slot].p);
    cuda->scratch[slot] = {NULL, 0};
    if (!cuda_ok(dev, cudaMalloc(&p, size), "scratch: cudaMalloc"))
        return NULL;
    cuda->scratch[slot] = {p, size};
    return p;
}

static void cuda_close(struct dev *dev)
{
    if (!dev)
        return;
    struct cuda *cuda = cuda_of(dev);
    cudaStreamSynchronize(cuda->stream);
    cuda_graphs_free(cuda->graphs);
    if (cuda->linear_free)
        cuda->linear_free(cuda->linear);
    for (int i = 0; i < CUDA_SLOTS; i++)
        cudaFree(cuda->scratch[i].p);
    cudaFreeHost(cuda->staging);
    if (cuda->blas)
        cublasDestroy(cuda->blas);
    if (cuda->blas_lt)
        cublasLtDestroy(cuda->blas_lt);
    for (int i = 0; i < 2; i++) {
        if (cuda->prepared[i])
            cudaEventDestroy(cuda->prepared[i]);
        if (cuda->chained[i])
            cudaEventDestroy(cuda->chained[i]);
    }
    if (cuda->chain_stream)
        cudaStreamDestroy(cuda->chain_stream);
    if (cuda->stream)
        cudaStreamDestroy(cuda->stream);
    free(cuda);
}

// The stream that works beside the first, and what they wait for of each other.
static bool open_chain(struct dev *dev)
{
    struct cuda *cuda = cuda_of(dev);
    int least = 0, greatest = 0;
    bool ok =
        cuda_ok(dev, cudaDeviceGetStreamPriorityRange(&least, &greatest), "priorities") &&
        cuda_ok(dev,
                cudaStreamCreateWithPriority(&cuda->chain_stream, cudaStreamNonBlocking, greatest),
                "stream");
    for (int i = 0; i < 2; i++)
        ok = ok &&
             cuda_ok(dev, cudaEventCreateWithFlags(&cuda->prepared[i], cudaEventDisableTiming),
                     "event") &&
             cuda_ok(dev, cudaEventCreateWithFlags(&cuda->chained[i], cudaEventDisableTiming),
                     "event");
    return ok;
}

// Everything that can fail while opening; the failure is kept.
static void open_parts(struct dev *dev)
{
    struct cuda *cuda = cuda_of(dev);
    cudaDeviceProp prop;
    if (!cuda_ok(dev, cudaSetDevice(cuda->index), "cudaSetDevice") ||
        !cuda_ok(dev, cudaGetDeviceProperties(&prop, cuda->index), "cudaGetDeviceProperties"))
        return;
    snprintf(cuda->name, sizeof cuda->name, "%s", prop.name);
    cuda->n_sm = prop.multiProcessorCount;
    cuda->arch = 10 * prop.major + prop.minor;
    cuda->sm_shared = (int)prop.sharedMemPerMultiprocessor;
    cuda->memory = prop.totalGlobalMem;
    cuda->l2_bytes = (size_t)prop.l2CacheSize;
    if (cuda_ok(dev, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking), "stream") &&
        open_chain(dev) &&
        cuda_ok(dev, cudaMallocHost(&cuda->staging, STAGING_BYTES), "cudaMallocHost") &&
        cuda_blas_ok(dev, cublasCreate(&cuda->blas), "cublasCreate") &&
        cuda_blas_ok(dev, cublasLtCreate(&cuda->blas_lt), "cublasLtCreate"))
        cuda_blas_ok(dev, cublasSetStream(cuda->blas, cuda->stream), "cublasSetStream");
}

static struct dev *cuda_open(const struct dev_options *o, char *why, size_t why_size)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error != cudaSuccess || o->index < 0 || o->index >= n) {
        snprintf(why, why_size, "cuda device %d: %s", o->index,
                 error != cudaSuccess ? cudaGetErrorString(error) : "there are fewer devices");
        return NULL;
    }
    if (o->act != DTYPE_F32 && o->act != DTYPE_BF16 && o->act != DTYPE_F16) {
        snprintf(why, why_size,
                 "activations of type %s are not computed with; use f32, bf16 or f16",
                 dtype_name(o->act));
        return NULL;
    }
    struct cuda *cuda = (struct cuda *)calloc(1, sizeof *cuda);
    if (!cuda) {
        snprintf(why, why_size, "out of memory opening the cuda device");
        return NULL;
    }
    cuda->index = o->index;
    cuda->act = o->act;
    open_parts((struct dev *)cuda);
    if (!cuda->failed)
        return (struct dev *)cuda;
    snprintf(why, why_size, "%s", cuda->failure);
    cuda_close((struct dev *)cuda);
    return NULL;
}

static void *cuda_alloc(struct dev *dev, size_t bytes)
{
    void *p = NULL;
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        cudaGetLastError(); // not sticky: the caller says what it wanted memory for
        return NULL;
    }
    cuda_ok(dev, cudaMemsetAsync(p, 0, bytes, cuda_of(dev)->stream), "cudaMemset");
    return p;
}

static void cuda_release(struct dev *dev, void *p)
{
    cuda_ok(dev, cudaFree(p), "cudaFree"); // waits for the stream
}

// Through a pinned ring, so that src is free again on return and nothing waits for the stream, unless
// the ring has come round.
static void cuda_upload(struct dev *dev, void *dst, const void *src, size_t bytes)
{
    struct cuda *cuda = cuda_of(dev);
    for (size_t done = 0; done < bytes;) {
        size_t part = bytes - done < STAGING_BYTES / 2 ? bytes - done : STAGING_BYTES / 2;
        if (cuda->staging_at + part > STAGING_BYTES) {
            cuda_ok(dev, cudaStreamSynchronize(cuda->stream), "upload");
            cuda->staging_at = 0;
        }
        char *p = cuda->staging + cuda->staging_at;
        memcpy(p, (const char *)src + done, part);
        cuda_ok(dev,
                cudaMemcpyAsync((char *)dst + done, p, part, cudaMemcpyHostToDevice, cuda->stream),
                "upload");
        cuda->staging_at += (part + 15) / 16 * 16;
        done += part;
    }
}

// Through the pinned ring as well: copies into other host memory the driver stages itself.
static void cuda_download(struct dev *dev, void *dst, const void *src, size_t bytes)
{
    struct cuda *cuda = cuda_of(dev);
    for (size_t done = 0; done < bytes;) {
        const size_t part = bytes - done < STAGING_BYTES ? bytes - done : STAGING_BYTES;
        if (!cuda_ok(dev,
                     cudaMemcpyAsync(cuda->staging, (const char *)src + done, part,
                                     cudaMemcpyDeviceToHost, cuda->stream),
                     "download") ||
            !cuda_ok(dev, cudaStreamSynchronize(cuda->stream), "download"))
            return;
        memcpy((char *)dst + done, cuda->staging, part);
        done += part;
    }
    cuda->staging_at = 0; // the stream is empty
}

static void cuda_copy(struct dev *dev, void *dst, const void *src, size_t bytes)
{
    cuda_ok(dev, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, cuda_of(dev)->stream),
            "copy");
}

static int cuda_sync(struct dev *dev, char *why, size_t why_size)
{
    struct cuda *cuda = cuda_of(dev);
    if (cuda_ok(dev, cudaStreamSynchronize(cuda->stream), "sync"))
        cuda->staging_at = 0;
    if (!cuda->failed)
        return 0;
    snprintf(why, why_size, "%s", cuda->failure);
    cuda->failed = false;
    return -1;
}

static enum dtype cuda_act(struct dev *dev)
{
    return cuda_of(dev)->act;
}

static size_t cuda_memory(struct dev *dev)
{
    return cuda_of(dev)->memory;
}

static const void *cuda_borrow(struct dev *, const void *, size_t)
{
    return NULL; // weights live on the device
}

static void cuda_warm(struct dev *dev, bool warm)
{
    cuda_of(dev)->warm = warm;
}

static void cuda_describe(struct dev *dev, char *text, size_t size)
{
    const struct cuda *cuda = cuda_of(dev);
    int runtime = 0, driver = 0;
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    snprintf(text, size, "%s, sm_%d, %d SMs, %.1f GiB, CUDA %d.%d (driver %d.%d), activations %s",
             cuda->name, cuda->arch, cuda->n_sm, (double)cuda->memory / 0x1p30, runtime / 1000,
             runtime / 10 % 100, driver / 1000, driver / 10 % 100, dtype_name(cuda->act));
}

extern "C" const struct ops ops_cuda = {.name = "cuda",
                                        .open = cuda_open,
                                        .close = cuda_close,
                                        .alloc = cuda_alloc,
                                        .release = cuda_release,
                                        .upload = cuda_upload,
                                        .download = cuda_download,
                                        .copy = cuda_copy,
                                        .sync = cuda_sync,
                                        .act = cuda_act,
                                        .memory = cuda_memory,
                                        .step_begin = cuda_step_begin,
                                        .step_end = cuda_step_end,
                                        .async = true,
                                        .warm_up = true,
                                        .warm = cuda_warm,
                                        .borrow = cuda_borrow,
                                        .describe = cuda_describe,
#define X(op) .op = cuda_##op,
                                        OPS(X)
#undef X
};
