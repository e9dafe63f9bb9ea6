// graphs.cu - recorded steps: a step of generated tokens is some four hundred launches of a few
// microseconds each; played back as one graph they follow each other without the host.
//
// A key's first step runs as it is (kernels load, scratch grows, the library chooses), its second is
// recorded and then played, later ones are played. All that a recording depends on is in the key or in
// device memory at fixed places: see step_begin in ops.h.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ops_cuda.cuh"

static constexpr int GRAPHS_MAX = 256;

struct recording {
    struct step_key key;
    cudaGraphExec_t exec; // NULL: seen once
    unsigned long used;
};

struct cuda_graphs {
    struct recording list[GRAPHS_MAX];
    int n, current; // current: being recorded, or -1
    unsigned long clock;
};

static struct recording *find(struct cuda_graphs *g, const struct step_key *key)
{
    for (int i = 0; i < g->n; i++)
        if (!memcmp(&g->list[i].key, key, sizeof *key))
            return &g->list[i];
    return NULL;
}

// A place for a new key: a free one, or that of the key not used for longest.
static struct recording *place(struct cuda_graphs *g)
{
    struct recording *oldest = &g->list[0];
    if (g->n < GRAPHS_MAX)
        return &g->list[g->n++];
    for (int i = 1; i < g->n; i++)
        if (g->list[i].used < oldest->used)
            oldest = &g->list[i];
    if (oldest->exec)
        cudaGraphExecDestroy(oldest->exec);
    return oldest;
}

bool cuda_step_begin(struct dev *dev, const struct step_key *key)
{
    struct cuda *cuda = cuda_of(dev);
    if (!cuda->graphs)
        cuda->graphs = (struct cuda_graphs *)calloc(1, sizeof *cuda->graphs);
    struct cuda_graphs *g = cuda->graphs;
    if (!g)
        return false;
    g->current = -1;
    struct recording *r = find(g, key);
    if (!r) {
        r = place(g);
        *r = {*key, NULL, ++g->clock};
        return false;
    }
    r->used = ++g->clock;
    if (r->exec) {
        cuda_ok(dev, cudaGraphLaunch(r->exec, cuda->stream), "cudaGraphLaunch");
        return true;
    }
    if (cuda_ok(dev, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal),
                "cudaStreamBeginCapture"))
        g->current = (int)(r - g->list);
    return false;
}

void cuda_step_end(struct dev *dev)
{
    struct cuda *cuda = cuda_of(dev);
    struct cuda_graphs *g = cuda->graphs;
    if (!g || g->current < 0)
        return;
    struct recording *r = &g->list[g->current];
    cudaGraph_t graph = NULL;
    if (cuda_ok(dev, cudaStreamEndCapture(cuda->stream, &graph), "cudaStreamEndCapture") &&
        cuda_ok(dev, cudaGraphInstantiate(&r->exec, graph, 0), "cudaGraphInstantiate"))
        cuda_ok(dev, cudaGraphLaunch(r->exec, cuda->stream), "cudaGraphLaunch");
    if (graph)
        cudaGraphDestroy(graph);
    g->current = -1;
}

void cuda_graphs_forget(struct cuda_graphs *graphs)
{
    for (int i = 0; graphs && i < graphs->n; i++)
        if (graphs->list[i].exec)
            cudaGraphExecDestroy(graphs->list[i].exec);
    if (graphs)
        graphs->n = 0;
}

void cuda_graphs_free(struct cuda_graphs *graphs)
{
    cuda_graphs_forget(graphs);
    free(graphs);
}
