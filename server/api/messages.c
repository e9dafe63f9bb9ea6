// messages.c - see messages.h.
#include "messages.h"

#include <string.h>

#include "template.h"

enum { MESSAGES_MAX = 4096, TOOLS_MAX = 512, PROMPT_BYTES_MAX = 64 << 20 };

struct fields {
    json_t *messages, *tools, *tool_choice, *template_kwargs;
    const char *reasoning_effort;
    bool add_generation_prompt;
};

#define AT(member) offsetof(struct fields, member)

static const struct json_field FIELDS[] = {
    {"messages", JSON_KIND_ARRAY, AT(messages), 1, MESSAGES_MAX, 0, true},
    {"tools", JSON_KIND_ARRAY, AT(tools), 0, TOOLS_MAX, 0, false},
    {"tool_choice", JSON_KIND_ANY, AT(tool_choice), 0, 0, 0, false},
    {"chat_template_kwargs", JSON_KIND_OBJECT, AT(template_kwargs), 0, 64, 0, false},
    {"reasoning_effort", JSON_KIND_STR, AT(reasoning_effort), 0, 32, 0, false},
    {"add_generation_prompt", JSON_KIND_BOOL, AT(add_generation_prompt), 0, 0, true, false},
};

static const struct unsupported UNSUPPORTED[] = {
    {"functions", "send tools"},
    {"function_call", "send tools"},
    {"documents", "put them into a message"},
    {"chat_template", "render yours and send it to /v1/completions"},
    {"continue_final_message", "render the prompt and send it to /v1/completions"},
    {NULL, NULL},
};

// "none": tools stay out of the prompt. The model cannot be made to call one.
static int check_tool_choice(struct fields *f, struct err *e)
{
    char found[64];
    if (!f->tool_choice)
        return 0;
    const char *choice = json_string_value(f->tool_choice);
    if (!choice || (strcmp(choice, "auto") && strcmp(choice, "none")))
        return err_field(e, ERR_UNSUPPORTED, "tool_choice",
                         "tool_choice is %s, which is not supported; send \"auto\" or \"none\"",
                         json_describe(f->tool_choice, found, sizeof found));
    if (!strcmp(choice, "none"))
        f->tools = NULL;
    return 0;
}

// chat_template_kwargs.enable_thinking; reasoning_effort "none" means false.
static int read_thinking(const struct fields *f, struct template_options *o, struct err *e)
{
    static const char FIELD[] = "chat_template_kwargs.enable_thinking";
    char found[64];
    json_t *on = json_object_get(f->template_kwargs, "enable_thinking");
    if (json_is_boolean(on))
        o->thinking = json_is_true(on) ? TEMPLATE_THINK_ON : TEMPLATE_THINK_OFF;
    else if (on && !json_is_null(on))
        return err_field(e, ERR_BAD_REQUEST, FIELD, "%s must be true or false, not %s", FIELD,
                         json_describe(on, found, sizeof found));
    else if (f->reasoning_effort && !strcmp(f->reasoning_effort, "none"))
        o->thinking = TEMPLATE_THINK_OFF;
    return 0;
}

static bool ends_with(const struct buf *b, const char *end)
{
    size_t n = strlen(end);
    return b->n >= n && !memcmp(b->data + b->n - n, end, n);
}

int messages_read(const struct api_server *s, json_t *body, struct ids *out, bool *thinks,
                  struct err *e)
{
    struct fields f;
    struct template_options o = {.thinking_by_default = s->thinking_by_default};
    if (json_read(FIELDS, sizeof FIELDS / sizeof *FIELDS, body, "", &f, e) ||
        api_refuse(UNSUPPORTED, body, e) || check_tool_choice(&f, e) || read_thinking(&f, &o, e))
        return -1;
    o.add_generation_prompt = f.add_generation_prompt;
    struct buf text = {.max = PROMPT_BYTES_MAX};
    int failed = template_render(&text, f.messages, f.tools, &o, e);
    if (!failed)
        failed = params_encode(&s->model, text.data, text.n, "messages", out, e);
    *thinks = f.add_generation_prompt && ends_with(&text, "<think>\n");
    buf_fini(&text);
    return failed;
}
