// delta_exact.c - see delta_exact.h.
#include "delta_exact.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

struct delta_gate delta_gate_of(double a, double b, double A_log, double dt_bias)
{
    const double x = a + dt_bias, soft = x > 20 ? x : log1p(exp(x));
    return (struct delta_gate){-exp(A_log) * soft, 1 / (1 + exp(-b))};
}

double delta_gate_a(double g)
{
    const double soft = fmax(-g, 1e-12);
    return soft > 20 ? soft : log(expm1(soft));
}

double delta_gate_b(double beta)
{
    const double b = fmin(fmax(beta, 1e-6), 1 - 1e-6);
    return log(b / (1 - b));
}

void delta_normalise(double *x, int n, double scale)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    const double by = scale / sqrt(sum + 1e-6);
    for (int i = 0; i < n; i++)
        x[i] *= by;
}

void delta_token(double *state, double *o, const struct delta_input *in, int k_dim, int v_dim)
{
    double u[DELTA_DIM_MAX] = {0};
    const double decay = exp(in->gate.g);
    for (int i = 0; i < k_dim; i++) {
        double *row = state + (size_t)i * (size_t)v_dim;
        for (int j = 0; j < v_dim; j++) {
            row[j] *= decay;
            u[j] += row[j] * in->k[i];
        }
    }
    for (int j = 0; j < v_dim; j++)
        u[j] = in->gate.beta * (in->v[j] - u[j]);
    memset(o, 0, (size_t)v_dim * sizeof *o);
    for (int i = 0; i < k_dim; i++) {
        double *row = state + (size_t)i * (size_t)v_dim;
        for (int j = 0; j < v_dim; j++) {
            row[j] += in->k[i] * u[j];
            o[j] += row[j] * in->q[i];
        }
    }
}

static double dot(const double *x, const double *y, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

void delta_matrix(double *a, const double *keys, const struct delta_gate *gates, int n, int k_dim)
{
    double sums[INVERSE_CHUNK_MAX], sum = 0;
    for (int t = 0; t < n; t++) {
        sums[t] = sum += gates[t].g;
        for (int s = 0; s < n; s++)
            a[t * n + s] = s < t ? gates[t].beta * exp(sums[t] - sums[s]) *
                                       dot(keys + t * k_dim, keys + s * k_dim, k_dim)
                                 : 0;
    }
}

void delta_invert(double *t, const double *a, int n)
{
    memset(t, 0, (size_t)n * (size_t)n * sizeof *t);
    for (int i = 0; i < n; i++) {
        t[i * n + i] = 1;
        for (int k = 0; k < i; k++)
            for (int j = 0; j <= k; j++)
                t[i * n + j] -= a[i * n + k] * t[k * n + j];
    }
}

double delta_T_limit(enum inverse_type type)
{
    static const double LIMITS[] = {[INVERSE_FP32] = 4e-6,
                                    [INVERSE_TF32] = 3e-3,
                                    [INVERSE_FP16] = 3e-3,
                                    [INVERSE_BF16] = 3e-2,
                                    [INVERSE_INT8] = 3e-3};
    return LIMITS[type];
}

double delta_residual(const double *a, const double *t, int n)
{
    double most = 0, row[INVERSE_CHUNK_MAX];
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++)
            row[j] = (i == j) - t[i * n + j];
        for (int k = 0; k < i; k++)
            for (int j = 0; j < n; j++)
                row[j] -= a[i * n + k] * t[k * n + j];
        for (int j = 0; j < n; j++)
            most = isnan(row[j]) ? INFINITY : fmax(most, fabs(row[j]));
    }
    return most;
}

double delta_row_sum(const double *a, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int j = 0; j < i; j++)
            sum += fabs(a[i * n + j]);
        most = fmax(most, sum);
    }
    return most;
}

double delta_mean_cosine(const double *keys, int n, int k_dim)
{
    // The sum over pairs from the length of the sum.
    double sum[DELTA_DIM_MAX] = {0}, own = 0;
    for (int t = 0; t < n; t++) {
        for (int i = 0; i < k_dim; i++)
            sum[i] += keys[t * k_dim + i];
        own += dot(keys + t * k_dim, keys + t * k_dim, k_dim);
    }
    return n < 2 ? 0 : (dot(sum, sum, k_dim) - own) / ((double)n * (n - 1));
}
