// qwen35_config.c - see qwen35_config.h. What is read and why a checkpoint is refused: the family's
// configs differ from other models' in a few keys only, so every key that would change the arithmetic is
// looked at, and one that asks for something this server does not compute is an error, never ignored.
#include "qwen35_config.h"

#include <math.h>
#include <string.h>

#include "json.h"

enum { CONFIG_DEPTH_MAX = 32 };

// What the schema table fills; names are config.json's.
struct raw {
    int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
    int64_t num_attention_heads, num_key_value_heads, head_dim;
    int64_t linear_num_key_heads, linear_num_value_heads, linear_key_head_dim;
    int64_t linear_value_head_dim, linear_conv_kernel_dim, max_position_embeddings;
    int64_t full_attention_interval;
    double rms_norm_eps, rope_theta, partial_rotary_factor;
    bool attention_bias, attn_output_gate, tie_word_embeddings;
    const char *hidden_act, *output_gate_type;
    json_t *layer_types, *rope_parameters, *rope_scaling, *eos_token_id;
};

#define AT(member) offsetof(struct raw, member)
#define SIZE(name, min, max)                                                                       \
    {                                                                                              \
#name, JSON_KIND_INT, AT(name), min, max, 0, true                                          \
    }

// These two stand in rope_parameters, or beside the sizes in older files; 0: not said.
#define ROPE_THETA                                                                                 \
    {                                                                                              \
        "rope_theta", JSON_KIND_NUM, AT(rope_theta), 1, 1e12, 0, false                             \
    }
#define ROTARY_SHARE                                                                               \
    {                                                                                              \
        "partial_rotary_factor", JSON_KIND_NUM, AT(partial_rotary_factor), 0.001, 1, 0, false      \
    }
static const struct json_field ROPE_FIELDS[] = {ROPE_THETA, ROTARY_SHARE};

static const struct json_field FIELDS[] = {
    SIZE(vocab_size, 1, CONFIG_VOCAB_MAX),
    SIZE(hidden_size, 16, CONFIG_HIDDEN_MAX),
    SIZE(intermediate_size, 16, CONFIG_INTERMEDIATE_MAX),
    SIZE(num_hidden_layers, 1, MODEL_LAYERS_MAX),
    SIZE(num_attention_heads, 1, CONFIG_HEADS_MAX),
    SIZE(num_key_value_heads, 1, CONFIG_HEADS_MAX),
    SIZE(head_dim, 16, CONFIG_HEAD_DIM_MAX),
    SIZE(linear_num_key_heads, 1, CONFIG_HEADS_MAX),
    SIZE(linear_num_value_heads, 1, CONFIG_HEADS_MAX),
    SIZE(linear_key_head_dim, 16, CONFIG_HEAD_DIM_MAX),
    SIZE(linear_value_head_dim, 16, CONFIG_HEAD_DIM_MAX),
    SIZE(linear_conv_kernel_dim, 1, 64),
    SIZE(max_position_embeddings, 1, CONFIG_POSITIONS_MAX),
    {"full_attention_interval", JSON_KIND_INT, AT(full_attention_interval), 1, MODEL_LAYERS_MAX, 4,
     false},
    {"rms_norm_eps", JSON_KIND_NUM, AT(rms_norm_eps), 1e-12, 1e-2, 1e-6, false},
    ROPE_THETA,
    ROTARY_SHARE,
    {"attention_bias", JSON_KIND_BOOL, AT(attention_bias), 0, 0, false, false},
    {"attn_output_gate", JSON_KIND_BOOL, AT(attn_output_gate), 0, 0, true, false},
    {"tie_word_embeddings", JSON_KIND_BOOL, AT(tie_word_embeddings), 0, 0, false, false},
    {"hidden_act", JSON_KIND_STR, AT(hidden_act), 0, 64, 0, false},
    {"output_gate_type", JSON_KIND_STR, AT(output_gate_type), 0, 64, 0, false},
    {"layer_types", JSON_KIND_ARRAY, AT(layer_types), 1, MODEL_LAYERS_MAX, 0, false},
    {"rope_parameters", JSON_KIND_OBJECT, AT(rope_parameters), 0, 64, 0, false},
    {"rope_scaling", JSON_KIND_OBJECT, AT(rope_scaling), 0, 64, 0, false},
    {"eos_token_id", JSON_KIND_ANY, AT(eos_token_id), 0, 0, 0, false},
};
enum { N_FIELDS = sizeof FIELDS / sizeof *FIELDS };

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

// model_type and architectures name the arithmetic; root has both in published files.
static int check_architecture(const json_t *root, const json_t *text, const char *path,
                              struct err *e)
{
    const char *type = text_of(root, "model_type"), *inner = text_of(text, "model_type");
    const json_t *list = json_object_get(root, "architectures");
    const char *name = json_is_array(list) ? json_string_value(json_array_get(list, 0)) : NULL;
    name = name ? name : "";
    const json_t *experts = json_object_get(text, "num_experts");
    if (!strncmp(type, "qwen3_5_moe", 11) || !strncmp(inner, "qwen3_5_moe", 11) ||
        !strncmp(name, "Qwen3_5Moe", 10) ||
        (json_is_integer(experts) && json_integer_value(experts) > 0))
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: this is a mixture-of-experts model ('%s'); this server runs the dense "
                       "Qwen3.5 models",
                       path, *name ? name : type);
    bool known_name = !*name || !strcmp(name, "Qwen3_5ForConditionalGeneration") ||
                      !strcmp(name, "Qwen3_5ForCausalLM");
    bool known_type = !*type || !strcmp(type, "qwen3_5") || !strcmp(type, "qwen3_5_text");
    if (!known_name || (!*name && !*type))
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: architectures is '%.64s'; wanted Qwen3_5ForConditionalGeneration or "
                       "Qwen3_5ForCausalLM",
                       path, name);
    if (!known_type)
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: model_type is '%.64s'; wanted qwen3_5 or qwen3_5_text", path, type);
    return 0;
}

static int check_quantized(const json_t *object, const char *path, struct err *e)
{
    static const char *const KEYS[] = {"quantization_config", "compression_config"};
    for (int i = 0; i < 2; i++) {
        const json_t *q = json_object_get(object, KEYS[i]);
        if (q && !json_is_null(q))
            return err_set(e, ERR_BAD_REQUEST,
                           "%s: %s says the checkpoint is quantized (%.32s); take the BF16 "
                           "checkpoint and let this server quantize it with dtype int8",
                           path, KEYS[i],
                           *text_of(q, "quant_method") ? text_of(q, "quant_method")
                                                       : "method not named");
    }
    return 0;
}

// Keys with one value that this server computes. A key that is absent has that value.
static int check_fixed(const struct raw *r, const char *path, struct err *e)
{
    if (r->hidden_act && strcmp(r->hidden_act, "silu"))
        return err_set(e, ERR_BAD_REQUEST, "%s: hidden_act is '%s'; wanted silu", path,
                       r->hidden_act);
    if (r->output_gate_type && strcmp(r->output_gate_type, "swish") &&
        strcmp(r->output_gate_type, "silu"))
        return err_set(e, ERR_BAD_REQUEST, "%s: output_gate_type is '%s'; wanted swish or silu",
                       path, r->output_gate_type);
    if (r->attention_bias)
        return err_set(e, ERR_BAD_REQUEST, "%s: attention_bias is true; wanted false", path);
    if (!r->attn_output_gate)
        return err_set(e, ERR_BAD_REQUEST, "%s: attn_output_gate is false; wanted true", path);
    if (r->linear_conv_kernel_dim != CONV_WIDTH)
        return err_set(e, ERR_BAD_REQUEST, "%s: linear_conv_kernel_dim is %lld; wanted %d", path,
                       (long long)r->linear_conv_kernel_dim, CONV_WIDTH);
    return 0;
}

static int check_heads(const struct raw *r, const char *path, struct err *e)
{
    const struct {
        const char *name;
        int64_t value;
    } dims[] = {{"head_dim", r->head_dim},
                {"linear_key_head_dim", r->linear_key_head_dim},
                {"linear_value_head_dim", r->linear_value_head_dim}};
    for (int i = 0; i < 3; i++)
        if (dims[i].value % 16)
            return err_set(e, ERR_BAD_REQUEST, "%s: %s is %lld; wanted a multiple of 16 up to %d",
                           path, dims[i].name, (long long)dims[i].value, CONFIG_HEAD_DIM_MAX);
    if (r->num_attention_heads % r->num_key_value_heads)
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: num_attention_heads is %lld; wanted a multiple of num_key_value_heads, "
                       "%lld",
                       path, (long long)r->num_attention_heads, (long long)r->num_key_value_heads);
    if (r->linear_num_value_heads % r->linear_num_key_heads)
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: linear_num_value_heads is %lld; wanted a multiple of "
                       "linear_num_key_heads, %lld",
                       path, (long long)r->linear_num_value_heads,
                       (long long)r->linear_num_key_heads);
    return 0;
}

static int check_rope_type(const json_t *object, const char *key, const char *path, struct err *e)
{
    // Older files say "type". The multi-section rotation ("mrope_section") needs no check: text
    // tokens have one position, for which it is the plain rotation.
    const char *type = text_of(object, "rope_type");
    if (!*type)
        type = text_of(object, "type");
    if (*type && strcmp(type, "default"))
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: %s.rope_type is '%.32s'; wanted default (this server does not stretch "
                       "positions)",
                       path, key, type);
    return 0;
}

// rope_parameters holds theta and the rotated share in published files; flat keys are older.
static int read_rope(struct config *c, const struct raw *r, const char *path, struct err *e)
{
    double theta = r->rope_theta, share = r->partial_rotary_factor;
    if (r->rope_parameters) {
        struct raw inner;
        struct err why;
        if (check_rope_type(r->rope_parameters, "rope_parameters", path, e))
            return -1;
        if (json_read(ROPE_FIELDS, 2, r->rope_parameters, "rope_parameters", &inner, &why))
            return err_set(e, ERR_BAD_REQUEST, "%s: %s", path, why.text);
        theta = inner.rope_theta > 0 ? inner.rope_theta : theta;
        share = inner.partial_rotary_factor > 0 ? inner.partial_rotary_factor : share;
    }
    if (check_rope_type(r->rope_scaling, "rope_scaling", path, e))
        return -1;
    if (theta <= 0)
        return err_set(e, ERR_BAD_REQUEST, "%s: rope_parameters.rope_theta is missing", path);
    share = share > 0 ? share : 0.25; // the family's default
    double rot = share * (double)r->head_dim;
    if (rot < 2 || rot != floor(rot) || fmod(rot, 2) != 0)
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: partial_rotary_factor is %g, which rotates %g of head_dim %lld values; "
                       "wanted an even number",
                       path, share, rot, (long long)r->head_dim);
    c->rotary_dim = (int)rot;
    c->rope_theta = (float)theta;
    return 0;
}

static int read_layers(struct config *c, const struct raw *r, const char *path, struct err *e)
{
    int n = c->num_hidden_layers;
    if (!r->layer_types) {
        for (int i = 0; i < n; i++)
            c->full_attention[i] = (i + 1) % r->full_attention_interval == 0;
        return 0;
    }
    if (json_array_size(r->layer_types) != (size_t)n)
        return err_set(e, ERR_BAD_REQUEST,
                       "%s: layer_types has %zu entries; wanted num_hidden_layers, %d", path,
                       json_array_size(r->layer_types), n);
    for (int i = 0; i < n; i++) {
        const char *type = json_string_value(json_array_get(r->layer_types, (size_t)i));
        c->full_attention[i] = type && !strcmp(type, "full_attention");
        if (!c->full_attention[i] && (!type || strcmp(type, "linear_attention")))
            return err_set(e, ERR_BAD_REQUEST,
                           "%s: layer_types[%d] is '%.32s'; wanted linear_attention or "
                           "full_attention",
                           path, i, type ? type : "not a string");
    }
    return 0;
}

// One id or a list of them; null and absent leave c alone.
static int read_eos(struct config *c, const json_t *v, const char *path, struct err *e)
{
    if (!v || json_is_null(v))
        return 0;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n > MODEL_EOS_MAX)
        return err_set(e, ERR_BAD_REQUEST, "%s: eos_token_id has %zu entries; wanted at most %d",
                       path, n, MODEL_EOS_MAX);
    c->n_eos = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= c->vocab_size)
            return err_set(e, ERR_BAD_REQUEST,
                           "%s: eos_token_id holds something that is not an id below vocab_size, "
                           "%d",
                           path, c->vocab_size);
        c->eos[c->n_eos++] = (int)json_integer_value(id);
    }
    return 0;
}

static void take_sizes(struct config *c, const struct raw *r)
{
    c->vocab_size = (int)r->vocab_size;
    c->hidden_size = (int)r->hidden_size;
    c->intermediate_size = (int)r->intermediate_size;
    c->num_hidden_layers = (int)r->num_hidden_layers;
    c->num_attention_heads = (int)r->num_attention_heads;
    c->num_key_value_heads = (int)r->num_key_value_heads;
    c->head_dim = (int)r->head_dim;
    c->linear_num_key_heads = (int)r->linear_num_key_heads;
    c->linear_num_value_heads = (int)r->linear_num_value_heads;
    c->linear_key_head_dim = (int)r->linear_key_head_dim;
    c->linear_value_head_dim = (int)r->linear_value_head_dim;
    c->max_position_embeddings = (int)r->max_position_embeddings;
    c->rms_norm_eps = (float)r->rms_norm_eps;
}

// text is root itself in a flat file.
static int read_config(struct config *c, json_t *root, json_t *text, const char *path,
                       struct err *e)
{
    struct raw r;
    struct err why;
    if (check_architecture(root, text, path, e) || check_quantized(root, path, e) ||
        check_quantized(text, path, e))
        return -1;
    if (json_read(FIELDS, N_FIELDS, text, root == text ? "" : "text_config", &r, &why))
        return err_set(e, ERR_BAD_REQUEST, "%s: %s", path, why.text);
    if (check_fixed(&r, path, e) || check_heads(&r, path, e))
        return -1;
    take_sizes(c, &r);
    c->tie_word_embeddings =
        r.tie_word_embeddings || json_is_true(json_object_get(root, "tie_word_embeddings"));
    const json_t *eos = r.eos_token_id ? r.eos_token_id : json_object_get(root, "eos_token_id");
    return read_rope(c, &r, path, e) || read_layers(c, &r, path, e) || read_eos(c, eos, path, e)
               ? -1
               : 0;
}

static json_t *parse_object(const char *json, size_t n, const char *path, struct err *e)
{
    struct err why;
    json_t *root = json_parse(json, n, CONFIG_DEPTH_MAX, &why);
    if (!root) {
        err_set(e, ERR_BAD_REQUEST, "%s: %s", path, why.text);
        return NULL;
    }
    if (json_is_object(root))
        return root;
    json_decref(root);
    err_set(e, ERR_BAD_REQUEST, "%s: the file is not a JSON object", path);
    return NULL;
}

int qwen35_config_parse(struct config *c, const char *json, size_t n, const char *path,
                        struct err *e)
{
    *c = (struct config){.temperature = NAN, .top_p = NAN, .top_k = -1};
    json_t *root = parse_object(json, n, path, e);
    if (!root)
        return -1;
    json_t *text = json_object_get(root, "text_config");
    int rc = text && !json_is_object(text)
                 ? err_set(e, ERR_BAD_REQUEST, "%s: text_config is not an object", path)
                 : read_config(c, root, text ? text : root, path, e);
    json_decref(root);
    return rc;
}

struct raw_generation {
    double temperature, top_p;
    int64_t top_k;
    json_t *eos_token_id;
};

#define GENERATION_AT(member) offsetof(struct raw_generation, member)

int qwen35_generation_parse(struct config *c, const char *json, size_t n, const char *path,
                            struct err *e)
{
    const struct json_field fields[] = {
        {"temperature", JSON_KIND_NUM, GENERATION_AT(temperature), 0, 2, c->temperature, false},
        {"top_p", JSON_KIND_NUM, GENERATION_AT(top_p), 1e-6, 1, c->top_p, false},
        {"top_k", JSON_KIND_INT, GENERATION_AT(top_k), 0, CONFIG_VOCAB_MAX, c->top_k, false},
        {"eos_token_id", JSON_KIND_ANY, GENERATION_AT(eos_token_id), 0, 0, 0, false},
    };
    struct raw_generation r;
    struct err why;
    json_t *root = parse_object(json, n, path, e);
    if (!root)
        return -1;
    int rc = 0;
    if (json_read(fields, sizeof fields / sizeof *fields, root, "", &r, &why))
        rc = err_set(e, ERR_BAD_REQUEST, "%s: %s", path, why.text);
    else
        rc = read_eos(c, r.eos_token_id, path, e);
    if (!rc) {
        c->temperature = r.temperature;
        c->top_p = r.top_p;
        c->top_k = (int)r.top_k;
    }
    json_decref(root);
    return rc;
}

int config_conv_channels(const struct config *c)
{
    return 2 * c->linear_num_key_heads * c->linear_key_head_dim + config_value_width(c);
}

int config_value_width(const struct config *c)
{
    return c->linear_num_value_heads * c->linear_value_head_dim;
}

int config_query_width(const struct config *c)
{
    return c->num_attention_heads * c->head_dim;
}

int config_kv_width(const struct config *c)
{
    return c->num_key_value_heads * c->head_dim;
}

int config_attention_layers(const struct config *c)
{
    int n = 0;
    for (int i = 0; i < c->num_hidden_layers; i++)
        n += c->full_attention[i];
    return n;
}
