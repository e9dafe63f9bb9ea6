// convert.c - float types of checkpoints: exact upwards, to nearest even downwards, at any address.
#include "convert.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static float from_f16(uint16_t bits)
{
    float f;
    convert_to_f32(&f, &bits, DTYPE_F16, 1);
    return f;
}

static uint16_t bf16_of(float f)
{
    uint16_t bits;
    convert_to_bf16(&bits, &f, DTYPE_F32, 1);
    return bits;
}

Test(convert, f16)
{
    cr_assert(from_f16(0x3C00) == 1.0f && from_f16(0xC000) == -2.0f);
    cr_assert(from_f16(0x7BFF) == 65504.0f && from_f16(0x3555) == 0x1.554p-2f);
    cr_assert(from_f16(0x0001) == 0x1p-24f && from_f16(0x83FF) == -0x1.ff8p-15f); // subnormal
    cr_assert(from_f16(0x0400) == 0x1p-14f);
    cr_assert(from_f16(0x8000) == 0 && signbit(from_f16(0x8000)));
    cr_assert(isinf(from_f16(0x7C00)) && isinf(from_f16(0xFC00)) && isnan(from_f16(0x7E00)));
}

Test(convert, bf16)
{
    cr_assert_eq(bf16_of(1.0f), 0x3F80);
    cr_assert_eq(bf16_of(0x1.01p0f), 0x3F80);       // half way: down to even
    cr_assert_eq(bf16_of(0x1.03p0f), 0x3F82);       // half way: up to even
    cr_assert_eq(bf16_of(0x1.010002p0f), 0x3F81);   // above half
    cr_assert_eq(bf16_of(0x1.fffffep127f), 0x7F80); // past the largest: inf
    cr_assert_eq(bf16_of(-0.0f), 0x8000);
    const uint32_t low_nan = 0x7F800001; // its payload is all in the half that goes
    uint16_t bits;
    convert_to_bf16(&bits, &low_nan, DTYPE_F32, 1);
    cr_assert((bits & 0x7F80) == 0x7F80 && (bits & 0x7F) != 0);
}

Test(convert, any_address)
{
    unsigned char bytes[1 + 3 * sizeof(float)];
    const float want[3] = {1.5f, -2.25f, 1e-20f};
    float got[3];
    memcpy(bytes + 1, want, sizeof want);
    convert_to_f32(got, bytes + 1, DTYPE_F32, 3);
    cr_assert(!memcmp(got, want, sizeof want));
    const uint16_t halves[3] = {0x3FC0, 0xC010, 0x1E3C};
    uint16_t copy[3];
    memcpy(bytes + 1, halves, sizeof halves);
    convert_to_bf16(copy, bytes + 1, DTYPE_BF16, 3);
    cr_assert(!memcmp(copy, halves, sizeof halves));
    convert_to_f32(got, bytes + 1, DTYPE_BF16, 2);
    cr_assert(got[0] == 1.5f && got[1] == -2.25f);
}

static uint16_t f16_of(float f)
{
    uint16_t bits;
    convert_to_f16(&bits, &f, DTYPE_F32, 1);
    return bits;
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
        if ((double)from_f16((uint16_t)middle) <= x)
            low = middle;
        else
            high = middle - 1;
    }
    if (low < 0x7BFF) {
        const double below = x - (double)from_f16((uint16_t)low),
                     above = (double)from_f16((uint16_t)(low + 1)) - x;
        low += above < below || (above == below && low % 2);
    }
    return (uint16_t)(low | (signbit(f) ? 0x8000 : 0));
}

static void expect_f16(float f)
{
    const uint16_t got = f16_of(f), want = nearest_f16(f);
    if (isnan(f))
        cr_assert((got & 0x7C00) == 0x7C00 && (got & 0x3FF) != 0, "NaN became %04x", got);
    else
        cr_assert(got == want, "%a became %04x, not %04x", (double)f, got, want);
}

Test(convert, to_f16_is_the_nearest)
{
    for (int h = 0; h < 0x7BFF; h++) { // each, half way to the next, and both sides of that
        const float a = from_f16((uint16_t)h), half = (a + from_f16((uint16_t)(h + 1))) / 2;
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

// Every bf16 number at an odd address, in a call whose length is not whole blocks and a short one.
Test(convert, bf16_to_f16)
{
    enum { ALL = 1 << 16, N = ALL - 3 };
    static unsigned char bytes[1 + ALL * sizeof(uint16_t)];
    static uint16_t got[ALL];
    for (int i = 0; i < ALL; i++)
        memcpy(bytes + 1 + (size_t)i * 2, &(uint16_t){(uint16_t)i}, 2);
    convert_to_f16(got, bytes + 1, DTYPE_BF16, N);
    convert_to_f16(got + N, bytes + 1 + N * sizeof(uint16_t), DTYPE_BF16, ALL - N);
    for (int i = 0; i < ALL; i++) {
        float f;
        convert_to_f32(&f, &(uint16_t){(uint16_t)i}, DTYPE_BF16, 1);
        cr_assert(isnan(f) ? (got[i] & 0x7FFF) > 0x7C00 : got[i] == nearest_f16(f),
                  "%a became %04x", (double)f, got[i]);
        uint16_t alone; // not in a block of them
        convert_to_f16(&alone, bytes + 1 + (size_t)i * 2, DTYPE_BF16, 1);
        cr_assert(alone == got[i], "%a alone became %04x, not %04x", (double)f, alone, got[i]);
        if (fabsf(f) >= 0x1p-17f && fabsf(f) <= 65504)
            cr_assert(from_f16(got[i]) == f, "%a lost bits", (double)f);
    }
}

Test(convert, f16_stays_as_it_is)
{
    const uint16_t halves[] = {0x0001, 0x83FF, 0x3C00, 0x7BFF, 0xFC00, 0x7E01};
    unsigned char bytes[1 + sizeof halves];
    uint16_t got[sizeof halves / sizeof *halves];
    memcpy(bytes + 1, halves, sizeof halves);
    convert_to_f16(got, bytes + 1, DTYPE_F16, sizeof halves / sizeof *halves);
    cr_assert(!memcmp(got, halves, sizeof halves));
}
