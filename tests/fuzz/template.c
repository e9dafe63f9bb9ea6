// template.c - fuzz target: {"messages": ..., "tools": ..., "enable_thinking": ...} through the chat
// template. A refusal names a field; a prompt is UTF-8 and ends as a prompt ends.
#include <stdint.h>
#include <string.h>

#include "json.h"
#include "template.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_t *root = json_parse((const char *)data, n, 100, NULL);
    const json_t *thinking = json_object_get(root, "enable_thinking");
    struct template_options o = {.thinking = json_is_true(thinking)    ? TEMPLATE_THINK_ON
                                             : json_is_false(thinking) ? TEMPLATE_THINK_OFF
                                                                       : TEMPLATE_THINK_DEFAULT,
                                 .add_generation_prompt = true};
    struct buf out = {.max = 1 << 20};
    struct err e = {0};
    if (template_render(&out, json_object_get(root, "messages"), json_object_get(root, "tools"), &o,
                        &e) == 0) {
        static const char prompt[] = "<|im_start|>assistant\n<think>\n";
        CHECK(strstr(out.data, prompt) != NULL || memchr(out.data, '\0', out.n));
        CHECK(utf8_check(out.data, out.n) == out.n);
    } else {
        CHECK(e.code != ERR_OK && e.param[0] && e.text[0]);
    }
    buf_fini(&out);
    json_decref(root);
    return 0;
}
