// template.c - see template.h. Each function stands for one part of the published template; where the
// template would put an accident of its language into the prompt (str() of a number as a name, the
// characters of a string as tool calls), the request is refused instead.
#include "template.h"

#include <stdio.h>
#include <string.h>

#include "json.h"
#include "pyjson.h"
#include "utf8.h"

static const char TOOLS_BEGIN[] =
    "<|im_start|>system\n# Tools\n\nYou have access to the following functions:\n\n<tools>";
static const char TOOLS_END[] =
    "\n</tools>\n\n"
    "If you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n"
    "</parameter>\n<parameter=example_parameter_2>\nThis is the value for the second parameter\n"
    "that can span\nmultiple lines\n</parameter>\n</function>\n</tool_call>\n\n"
    "<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block "
    "must "
    "be nested within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the "
    "function call, but NOT after\n"
    "- If there is no function call available, answer the question like normal with your current "
    "knowledge and do not tell the user about function calls\n"
    "</IMPORTANT>";
static const char THINK[] = "<think>", THINK_END[] = "</think>";

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };

// A stretch of somebody else's bytes.
struct span {
    const char *s;
    size_t n;
};

struct rendering {
    struct buf *out;
    const json_t *messages;
    size_t n;          // messages
    size_t last_query; // index of the last message in which the user asks something
    struct buf parts;  // content that came in parts, put together
    struct err *e;
};

// Refuse messages[i]. field is the path below it, e.g. ".role"; why ends the sentence.
static int refuse(struct rendering *r, size_t i, const char *field, const char *why)
{
    char param[96]; // as err.param
    snprintf(param, sizeof param, "messages[%zu]%s", i, field);
    return err_field(r->e, ERR_BAD_REQUEST, param, "%s %s", param, why);
}

// str.isspace of Python, which str.strip goes by: White_Space and the four separators U+001C .. 1F.
static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static struct span trim(struct span t)
{
    const char *from = t.s, *end = t.s + t.n;
    while (from < end) {
        const char *next = from;
        if (!is_space(utf8_decode(&next)))
            break;
        from = next;
    }
    while (end > from) {
        const char *last = end - 1;
        while (((unsigned char)*last & 0xC0) == 0x80)
            last--;
        const char *c = last;
        if (!is_space(utf8_decode(&c)))
            break;
        end = last;
    }
    return (struct span){from, (size_t)(end - from)};
}

static struct span string_span(const json_t *v)
{
    return (struct span){json_string_value(v), json_string_length(v)};
}

static void add_span(struct buf *out, struct span t)
{
    buf_add(out, t.s, t.n);
}

// Where text begins in t, or t.n; the first place, or the last one.
static size_t find(struct span t, const char *text, bool last)
{
    size_t n = strlen(text), found = t.n;
    for (size_t i = 0; i + n <= t.n; i++) {
        if (memcmp(t.s + i, text, n) != 0)
            continue;
        found = i;
        if (!last)
            break;
    }
    return found;
}

static struct span skip_newlines(struct span t)
{
    while (t.n && *t.s == '\n') {
        t.s++;
        t.n--;
    }
    return t;
}

static int role_of(struct rendering *r, size_t i, enum role *role)
{
    static const struct {
        const char *name;
        enum role role;
    } roles[] = {{"system", ROLE_SYSTEM},
                 {"developer", ROLE_SYSTEM}, // OpenAI's newer name for it
                 {"user", ROLE_USER},
                 {"assistant", ROLE_ASSISTANT},
                 {"tool", ROLE_TOOL}};
    const json_t *v = json_object_get(json_array_get(r->messages, i), "role");
    const char *name = json_string_value(v);
    for (size_t k = 0; name && k < sizeof roles / sizeof roles[0]; k++) {
        size_t n = strlen(roles[k].name);
        if (n != json_string_length(v) || memcmp(name, roles[k].name, n) != 0)
            continue;
        *role = roles[k].role;
        return 0;
    }
    return refuse(r, i, ".role", "must be system, developer, user, assistant or tool");
}

static int add_part(struct rendering *r, size_t i, size_t k, const json_t *part)
{
    char field[48];
    const json_t *text = json_object_get(part, "text");
    const char *type = json_string_value(json_object_get(part, "type"));
    snprintf(field, sizeof field, ".content[%zu]", k);
    static const char *const pictures[] = {"image", "image_url", "video", "video_url"};
    for (size_t p = 0; p < sizeof pictures / sizeof pictures[0]; p++)
        if (json_object_get(part, pictures[p]) || (type && strcmp(type, pictures[p]) == 0))
            return refuse(r, i, field, "is an image or a video; this server reads text only");
    if (!json_is_string(text))
        return refuse(r, i, field, "must be a part of type text with a string as its text");
    add_span(&r->parts, string_span(text));
    return 0;
}

// The trimmed content of message i; good until the next call.
static int content_of(struct rendering *r, size_t i, struct span *content)
{
    const json_t *v = json_object_get(json_array_get(r->messages, i), "content");
    *content = (struct span){"", 0};
    if (!v || json_is_null(v))
        return 0;
    if (json_is_string(v)) {
        *content = trim(string_span(v));
        return 0;
    }
    if (!json_is_array(v))
        return refuse(r, i, ".content", "must be a string, an array of text parts or null");
    buf_clear(&r->parts);
    for (size_t k = 0; k < json_array_size(v); k++)
        if (add_part(r, i, k, json_array_get(v, k)) != 0)
            return -1;
    if (r->parts.n)
        *content = trim((struct span){r->parts.data, r->parts.n});
    return 0;
}

// Users' messages that are nothing but a tool's answer are no questions.
static bool is_tool_response(struct span t)
{
    static const char begin[] = "<tool_response>", end[] = "</tool_response>";
    size_t begin_n = sizeof begin - 1, end_n = sizeof end - 1;
    return t.n >= end_n && memcmp(t.s, begin, begin_n) == 0 &&
           memcmp(t.s + t.n - end_n, end, end_n) == 0;
}

static int find_last_query(struct rendering *r)
{
    for (size_t i = r->n; i-- > 0;) {
        enum role role;
        struct span content;
        if (role_of(r, i, &role) != 0)
            return -1;
        if (role != ROLE_USER)
            continue;
        if (content_of(r, i, &content) != 0)
            return -1;
        if (!is_tool_response(content)) {
            r->last_query = i;
            return 0;
        }
    }
    return err_field(r->e, ERR_BAD_REQUEST, "messages",
                     "messages has no message of role user that asks something; add one");
}

// The system turn: the tools and how to call them, then the first message if it is a system one.
static int add_system(struct rendering *r, const json_t *tools)
{
    enum role role;
    struct span content = {"", 0};
    if (role_of(r, 0, &role) != 0 || (role == ROLE_SYSTEM && content_of(r, 0, &content) != 0))
        return -1;
    if (json_array_size(tools) == 0) {
        if (role == ROLE_SYSTEM) {
            buf_str(r->out, "<|im_start|>system\n");
            add_span(r->out, content);
            buf_str(r->out, "<|im_end|>\n");
        }
        return 0;
    }
    buf_str(r->out, TOOLS_BEGIN);
    for (size_t i = 0; i < json_array_size(tools); i++) {
        char param[32];
        const json_t *tool = json_array_get(tools, i);
        snprintf(param, sizeof param, "tools[%zu]", i);
        buf_str(r->out, "\n");
        if (!json_is_object(tool))
            return err_field(r->e, ERR_BAD_REQUEST, param, "%s must be an object", param);
        if (!pyjson_dump(r->out, tool))
            return err_field(r->e, ERR_BAD_REQUEST, param, "%s is nested deeper than %d", param,
                             PYJSON_DEPTH_MAX);
    }
    buf_str(r->out, TOOLS_END);
    if (content.n) {
        buf_str(r->out, "\n\n");
        add_span(r->out, content);
    }
    buf_str(r->out, "<|im_end|>\n");
    return 0;
}

// The arguments of a call as an object the caller owns: OpenAI's clients send it as a JSON string, and
// an empty one or null for a function without parameters.
static json_t *arguments_of(struct rendering *r, size_t i, const char *field, json_t *arguments)
{
    if (!arguments || json_is_null(arguments) ||
        (json_is_string(arguments) && json_string_length(arguments) == 0))
        return json_object();
    if (json_is_object(arguments))
        return json_incref(arguments);
    struct err inner = {0};
    json_t *parsed = NULL;
    if (json_is_string(arguments))
        parsed = json_parse(json_string_value(arguments), json_string_length(arguments),
                            PYJSON_DEPTH_MAX, &inner);
    if (json_is_object(parsed))
        return parsed;
    json_decref(parsed);
    refuse(r, i, field, "must be an object or a string that holds a JSON object");
    return NULL;
}

static int add_arguments(struct rendering *r, size_t i, const char *field, json_t *arguments)
{
    const char *key;
    size_t key_n;
    json_t *value, *object = arguments_of(r, i, field, arguments);
    if (!object)
        return -1;
    bool flat = true;
    json_object_keylen_foreach(object, key, key_n, value)
    {
        buf_str(r->out, "<parameter=");
        buf_add(r->out, key, key_n);
        buf_str(r->out, ">\n");
        flat = pyjson_str(r->out, value) && flat;
        buf_str(r->out, "\n</parameter>\n");
    }
    json_decref(object);
    return flat ? 0 : refuse(r, i, field, "is nested too deep");
}

static int add_tool_calls(struct rendering *r, size_t i, const json_t *calls, bool after_text)
{
    if (!calls || json_is_null(calls))
        return 0;
    if (!json_is_array(calls))
        return refuse(r, i, ".tool_calls", "must be an array or null");
    for (size_t k = 0; k < json_array_size(calls); k++) {
        char field[64];
        const json_t *call = json_array_get(calls, k),
                     *function = json_object_get(call, "function");
        if (function)
            call = function;
        const json_t *name = json_object_get(call, "name");
        const char *inside = function ? ".function" : "";
        snprintf(field, sizeof field, ".tool_calls[%zu]%s.name", k, inside);
        if (!json_is_string(name))
            return refuse(r, i, field, "must be a string");
        buf_str(r->out, k ? "\n" : after_text ? "\n\n" : "");
        buf_str(r->out, "<tool_call>\n<function=");
        add_span(r->out, string_span(name));
        buf_str(r->out, ">\n");
        snprintf(field, sizeof field, ".tool_calls[%zu]%s.arguments", k, inside);
        if (add_arguments(r, i, field, json_object_get(call, "arguments")) != 0)
            return -1;
        buf_str(r->out, "</function>\n</tool_call>");
    }
    return 0;
}

// Take reasoning out of content: it is between the last <think> before the first </think> (or the
// beginning) and that </think>; the answer begins behind the last </think>.
static struct span cut_reasoning(struct span *content)
{
    size_t end = find(*content, THINK_END, false);
    struct span reasoning = {content->s, 0};
    if (end == content->n)
        return reasoning;
    reasoning.n = end;
    size_t begin = find(reasoning, THINK, true);
    if (begin < reasoning.n) {
        reasoning.s += begin + strlen(THINK);
        reasoning.n -= begin + strlen(THINK);
    }
    size_t answer = find(*content, THINK_END, true) + strlen(THINK_END);
    *content = skip_newlines((struct span){content->s + answer, content->n - answer});
    return reasoning;
}

// What the model thought is shown to it again only within the turn it is still answering.
static int add_assistant(struct rendering *r, size_t i, struct span content)
{
    const json_t *message = json_array_get(r->messages, i);
    const json_t *given = json_object_get(message, "reasoning_content");
    if (!json_is_string(given))
        given = json_object_get(message, "reasoning");
    struct span reasoning =
        trim(json_is_string(given) ? string_span(given) : cut_reasoning(&content));
    buf_str(r->out, "<|im_start|>assistant\n");
    if (i > r->last_query) {
        buf_str(r->out, "<think>\n");
        add_span(r->out, reasoning);
        buf_str(r->out, "\n</think>\n\n");
    }
    add_span(r->out, content);
    if (add_tool_calls(r, i, json_object_get(message, "tool_calls"), trim(content).n > 0) != 0)
        return -1;
    buf_str(r->out, "<|im_end|>\n");
    return 0;
}

// A run of tools' answers is one turn of the user.
static int add_tool(struct rendering *r, size_t i, struct span content)
{
    enum role before = ROLE_TOOL, after = ROLE_USER;
    if (i > 0 && role_of(r, i - 1, &before) != 0)
        return -1;
    if (i + 1 < r->n && role_of(r, i + 1, &after) != 0)
        return -1;
    // The template opens the turn only behind another message; a first message of role tool has none.
    if (before != ROLE_TOOL)
        buf_str(r->out, "<|im_start|>user");
    buf_str(r->out, "\n<tool_response>\n");
    add_span(r->out, content);
    buf_str(r->out, "\n</tool_response>");
    if (after != ROLE_TOOL)
        buf_str(r->out, "<|im_end|>\n");
    return 0;
}

static int add_message(struct rendering *r, size_t i)
{
    enum role role;
    struct span content;
    if (role_of(r, i, &role) != 0 || content_of(r, i, &content) != 0)
        return -1;
    switch (role) {
    case ROLE_SYSTEM:
        return i == 0 ? 0 : refuse(r, i, ".role", "is system; only the first message may be");
    case ROLE_USER:
        buf_str(r->out, "<|im_start|>user\n");
        add_span(r->out, content);
        buf_str(r->out, "<|im_end|>\n");
        return 0;
    case ROLE_ASSISTANT:
        return add_assistant(r, i, content);
    default:
        return add_tool(r, i, content);
    }
}

static void add_prompt(struct buf *out, const struct template_options *o)
{
    bool on = o->thinking == TEMPLATE_THINK_DEFAULT ? o->thinking_by_default
                                                    : o->thinking == TEMPLATE_THINK_ON;
    buf_str(out, "<|im_start|>assistant\n<think>\n");
    if (!on)
        buf_str(out, "\n</think>\n\n");
}

int template_render(struct buf *out, json_t *messages, json_t *tools,
                    const struct template_options *o, struct err *e)
{
    struct rendering r = {.out = out, .messages = messages, .n = json_array_size(messages), .e = e};
    char found[64];
    if (!r.n)
        return err_field(e, ERR_BAD_REQUEST, "messages",
                         "messages must be an array of at least one message");
    if (tools && !json_is_null(tools) && !json_is_array(tools))
        return err_field(e, ERR_BAD_REQUEST, "tools", "tools is %s; it must be an array or null",
                         json_describe(tools, found, sizeof found));
    int rc = find_last_query(&r) != 0 || add_system(&r, tools) != 0 ? -1 : 0;
    for (size_t i = 0; i < r.n && rc == 0; i++)
        rc = add_message(&r, i);
    buf_fini(&r.parts);
    if (rc == 0 && o->add_generation_prompt)
        add_prompt(out, o);
    if (rc == 0 && out->overflow)
        rc = err_field(e, ERR_TOO_LARGE, "messages",
                       "messages are longer than %zu bytes as a prompt", out->max);
    return rc;
}
