// pretokenize.c - see pretokenize.h. The alternatives of the expressions are tried in their order; each
// test below says which one it stands for.
#include "pretokenize.h"

#include <string.h>

#include "utf8.h"

const char PRETOKENIZE_QWEN35[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
    "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char PRETOKENIZE_QWEN2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
                                 "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

bool pretokenizer_init(struct pretokenizer *p, const struct unicode *u, const char *regex)
{
    bool marks = strcmp(regex, PRETOKENIZE_QWEN35) == 0;
    if (!marks && strcmp(regex, PRETOKENIZE_QWEN2) != 0)
        return false;
    p->unicode = u;
    p->word = UNICODE_LETTER | (marks ? UNICODE_MARK : 0);
    p->known = p->word | UNICODE_NUMBER | UNICODE_SPACE;
    return true;
}

// Classes of the character at *at, which moves behind it.
static unsigned take(const struct pretokenizer *p, const char **at)
{
    return unicode_flags(p->unicode, utf8_decode(at));
}

static bool is_newline(char c)
{
    return c == '\n' || c == '\r';
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d) at an apostrophe: its bytes, or 0. The long s (U+017F) is an s when
// case is ignored; no other letter beyond ASCII folds to one of these.
static size_t contraction(const char *s, size_t n)
{
    if (n >= 3 && memcmp(s + 1, "\xC5\xBF", 2) == 0)
        return 3;
    char a = n >= 2 ? (char)(s[1] | 0x20) : '\0', b = n >= 3 ? (char)(s[2] | 0x20) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    return 0;
}

// The end of the run of characters of word classes that begins at `at`.
static const char *word_end(const struct pretokenizer *p, const char *at, const char *end)
{
    while (at < end) {
        const char *next = at;
        if (!(take(p, &next) & p->word))
            break;
        at = next;
    }
    return at;
}

// [^\s\p{L}\p{M}\p{N}]+[\r\n]* : the end of what begins with punctuation at `at`.
static const char *punctuation_end(const struct pretokenizer *p, const char *at, const char *end)
{
    while (at < end) {
        const char *next = at;
        if (take(p, &next) & p->known)
            break;
        at = next;
    }
    while (at < end && is_newline(*at))
        at++;
    return at;
}

// \s*[\r\n]+ : through the run's last line end. Otherwise \s+(?!\S) : the whole run at the end of the
// text, else all but its last character, which goes to the next word; \s+ when that is all there is.
static const char *space_end(const struct pretokenizer *p, const char *s, const char *end)
{
    const char *at = s, *last = s, *line_end = NULL;
    while (at < end) {
        const char *next = at;
        if (!(take(p, &next) & UNICODE_SPACE))
            break;
        if (is_newline(*at))
            line_end = next;
        last = at;
        at = next;
    }
    if (line_end)
        return line_end;
    return at == end || last == s ? at : last;
}

size_t pretokenize_next(const struct pretokenizer *p, const char *s, size_t n)
{
    const char *end = s + n, *second = s;
    if (*s == '\'') {
        size_t k = contraction(s, n);
        if (k)
            return k;
    }
    unsigned first = take(p, &second);
    const char *third = second;
    unsigned next = second < end ? take(p, &third) : UNICODE_SPACE;
    // [^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+ : a word, with one other character before it. A mark may be
    // that character, but is also taken by the run itself where the run takes marks.
    if (first & p->word)
        return (size_t)(word_end(p, second, end) - s);
    if (!(first & UNICODE_NUMBER) && !is_newline(*s) && (next & p->word))
        return (size_t)(word_end(p, third, end) - s);
    if (first & UNICODE_NUMBER)
        return (size_t)(second - s);
    if (!(first & p->known) || (*s == ' ' && !(next & p->known)))
        return (size_t)(punctuation_end(p, second, end) - s);
    return (size_t)(space_end(p, s, end) - s);
}
