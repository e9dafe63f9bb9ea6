// messages.h - from the messages of a request to the ids of a prompt. Loop thread only.
#ifndef MESSAGES_H
#define MESSAGES_H

#include "params.h"

// Read messages, tools, tool_choice, chat_template_kwargs, reasoning_effort and add_generation_prompt
// of body, render them with the model's template, and append the ids to out. *thinks: the prompt ends
// inside a think block that it opens.
int messages_read(const struct api_server *s, json_t *body, struct ids *out, bool *thinks,
                  struct err *e) MUST_USE;

#endif
