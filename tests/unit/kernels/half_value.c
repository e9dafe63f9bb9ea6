// half_value.c - numbers of 16 bits: exact upwards, to the nearest and the even one of two downwards.
#include "half_value.h"

#include <criterion/criterion.h>
#include <math.h>

Test(half_value, f16)
{
    cr_assert(half_f16_value(0x3C00) == 1.0f && half_f16_value(0xC000) == -2.0f);
    cr_assert(half_f16_value(0x7BFF) == 65504.0f && half_f16_value(0x3555) == 0x1.554p-2f);
    cr_assert(half_f16_value(0x0001) == 0x1p-24f &&
              half_f16_value(0x83FF) == -0x1.ff8p-15f); // subnormal
    cr_assert(half_f16_value(0x0400) == 0x1p-14f);
    cr_assert(half_f16_value(0x8000) == 0 && signbit(half_f16_value(0x8000)));
    cr_assert(isinf(half_f16_value(0x7C00)) && isinf(half_f16_value(0xFC00)) &&
              isnan(half_f16_value(0x7E00)));
}

Test(half_value, bf16)
{
    cr_assert_eq(half_bf16(1.0f), 0x3F80);
    cr_assert_eq(half_bf16(0x1.01p0f), 0x3F80);       // half way: down to even
    cr_assert_eq(half_bf16(0x1.03p0f), 0x3F82);       // half way: up to even
    cr_assert_eq(half_bf16(0x1.010002p0f), 0x3F81);   // above half
    cr_assert_eq(half_bf16(0x1.fffffep127f), 0x7F80); // past the largest: inf
    cr_assert_eq(half_bf16(-0.0f), 0x8000);
    float low_nan; // its payload is all in the half that goes
    memcpy(&low_nan, &(uint32_t){0x7F800001}, sizeof low_nan);
    const uint16_t bits = half_bf16(low_nan);
    cr_assert((bits & 0x7F80) == 0x7F80 && (bits & 0x7F) != 0);
}

// The definition: of the numbers that f16 has, the nearest, the even one of two; 0x7BFF is the last.
static uint16_t nearest_f16(float f)
{
    const double x = fabs((double)f);
    int low = 0, high = 0x7BFF;
    if (isnan(f))
        return 0x7E00;
    while (low < high) { // the last that is not above x
        const int middle = (low + high + 1) / 2;
        if ((double)half_f16_value((uint16_t)middle) <= x)
            low = middle;
        else
            high = middle - 1;
    }
    if (low < 0x7BFF) {
        const double below = x - (double)half_f16_value((uint16_t)low),
                     above = (double)half_f16_value((uint16_t)(low + 1)) - x;
        low += above < below || (above == below && low % 2);
    }
    return (uint16_t)(low | (signbit(f) ? 0x8000 : 0));
}

static void expect_f16(float f)
{
    const uint16_t got = half_f16(f), want = nearest_f16(f);
    if (isnan(f))
        cr_assert((got & 0x7C00) == 0x7C00 && (got & 0x3FF) != 0, "NaN became %04x", got);
    else
        cr_assert(got == want, "%a became %04x, not %04x", (double)f, got, want);
}

Test(half_value, to_f16_is_the_nearest)
{
    for (int h = 0; h < 0x7BFF; h++) { // each, half way to the next, and both sides of that
        const float a = half_f16_value((uint16_t)h),
                    half = (a + half_f16_value((uint16_t)(h + 1))) / 2;
        const float all[] = {a, half, nextafterf(half, 0), nextafterf(half, INFINITY)};
        for (int i = 0; i < 4; i++) {
            expect_f16(all[i]);
            expect_f16(-all[i]);
        }
    }
    const float ends[] = {65504, 65519.996f, 65520,           1e6f,  INFINITY,
                          NAN,   0x1p-25f,   0x1.000002p-25f, 1e-30f};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        expect_f16(ends[i]);
        expect_f16(-ends[i]);
    }
}

Test(half_value, every_bf16_number_to_f16)
{
    for (int i = 0; i < 1 << 16; i++) {
        const float f = half_bf16_value((uint16_t)i);
        const uint16_t got = half_of_value(f, DTYPE_F16);
        expect_f16(f);
        if (fabsf(f) >= 0x1p-17f && fabsf(f) <= 65504)
            cr_assert(half_value(got, DTYPE_F16) == f, "%a lost bits", (double)f);
        cr_assert(isnan(f) || half_of_value(half_value((uint16_t)i, DTYPE_BF16), DTYPE_BF16) == i);
    }
}
