// report_value.c - see report_value.h.
#include "report_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void value_exact(struct buf *out, double v)
{
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_str(out, text);
}

// "1e-05" is 1e-5.
static void write_number(struct buf *out, char *text)
{
    char *e = strchr(text, 'e');
    char *digits = e ? e + 2 : NULL;
    if (e && e[1] == '+')
        digits--;
    size_t zeros = e ? strspn(e + 2, "0") : 0;
    if (e)
        memmove(digits, e + 2 + zeros, strlen(e + 2 + zeros) + 1);
    buf_str(out, text);
}

void value_rounded(struct buf *out, double v, int digits)
{
    enum { USUAL_DIGITS = 6, EXPONENT_MIN = -4, EXPONENT_MAX = 12 };
    char text[64];
    int exponent = v == 0 ? 0 : (int)floor(log10(fabs(v)));
    int decimals = digits - 1 - exponent;
    if (v == 0)
        snprintf(text, sizeof text, "0");
    else if (digits == 0)
        snprintf(text, sizeof text, "%.*g", USUAL_DIGITS, v);
    else if (exponent < EXPONENT_MIN || exponent > EXPONENT_MAX)
        snprintf(text, sizeof text, "%.*e", digits - 1, v);
    else
        snprintf(text, sizeof text, "%.*f", decimals > 0 ? decimals : 0, v);
    write_number(out, text);
}

static int add_bytes(const char *bytes, size_t n, void *out)
{
    buf_add(out, bytes, n);
    return 0;
}

void value_raw(struct buf *out, const json_t *v)
{
    if (json_is_string(v))
        buf_add(out, json_string_value(v), json_string_length(v));
    else if (json_is_real(v))
        value_exact(out, json_real_value(v));
    else if (v && !json_is_null(v))
        CHECK(json_dump_callback(v, add_bytes, out, JSON_COMPACT | JSON_ENCODE_ANY) == 0);
}

const char *value_cell(struct report_doc *d, const json_t *v, const struct report_column *c)
{
    if (json_is_string(v))
        return report_doc_text(d, v);
    struct buf b = {0};
    if (json_is_real(v) && c->whole)
        buf_format(&b, "%.0f", json_real_value(v));
    else if (json_is_real(v))
        value_rounded(&b, json_real_value(v), c->digits);
    else
        value_raw(&b, v);
    // What is left as JSON text may hold strings: through the same door as any text.
    json_t *text = json_stringn(b.data ? b.data : "", b.n);
    const char *clean = report_doc_text(d, text);
    json_decref(text);
    buf_fini(&b);
    return clean;
}
