// template.h - the Qwen3.5 chat template in C: messages to the text the model was trained on, byte for
// byte what the published Jinja template renders. No template language, so nothing of a request is
// ever executed. Pure functions, any thread.
#ifndef TEMPLATE_H
#define TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>

#include "buf.h"
#include "err.h"

enum template_thinking { TEMPLATE_THINK_DEFAULT, TEMPLATE_THINK_ON, TEMPLATE_THINK_OFF };

// The model sizes differ only in what an unset enable_thinking means.
struct template_options {
    enum template_thinking thinking; // chat_template_kwargs.enable_thinking
    bool thinking_by_default;        // 4B and up: true; 0.8B, 2B and the bundled model: false
    bool add_generation_prompt;
};

// messages: the request's array as OpenAI's clients send it (content a string, parts, or null;
// reasoning_content or reasoning; tool_calls with arguments as an object or as a JSON string; roles
// system, developer (= system), user, assistant, tool). tools: array or NULL. Appends to out.
// ERR_BAD_REQUEST names the message at fault in err.param, ERR_TOO_LARGE says that out is full; out may
// then hold the beginning of the prompt. Images and videos are refused. Values are printed as Python
// prints them (pyjson.h). Source: chat_template.jinja of the Qwen3.5 checkpoints.
int template_render(struct buf *out, json_t *messages, json_t *tools,
                    const struct template_options *o, struct err *e) MUST_USE;

#endif
