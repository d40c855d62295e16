/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/config/route_map.h"

#include <string.h>

#include "libs/mqtt/topic.h"

const struct sp_route_config *sp_route_find(const struct sp_config *config, struct sp_view topic)
{
    for (size_t i = 0; i < config->route_count; i++) {
        const struct sp_route_config *route = &config->routes[i];
        if (sp_topic_matches(sp_view_str(route->from), topic)) {
            return route->cloud != NULL ? route : NULL;
        }
    }
    return NULL;
}

/* What the `#` of a filter stands for: the topic without as many levels as the filter has before it. */
static struct sp_view rest_of(const char *filter, struct sp_view topic)
{
    size_t len = strlen(filter);
    if (len == 0 || filter[len - 1U] != '#') {
        return (struct sp_view){NULL, 0};
    }
    size_t slashes = 0;
    for (size_t i = 0; i < len; i++) {
        slashes += filter[i] == '/';
    }
    size_t at = 0;
    while (slashes > 0 && at < topic.len) {
        slashes -= topic.ptr[at++] == '/';
    }
    return slashes == 0 ? sp_view_from(topic, at) : (struct sp_view){NULL, 0};
}

/* Up to what may be the next thing to put in; the first byte is none. */
static size_t plain_len(struct sp_view text)
{
    const uint8_t *brace = text.len > 1 ? memchr(text.ptr + 1, '{', text.len - 1) : NULL;
    return brace != NULL ? (size_t)(brace - text.ptr) : text.len;
}

enum sp_err sp_route_map(const char *template_text, const char *filter, const char *gateway,
                         struct sp_view device, struct sp_view topic, void *out, size_t cap,
                         size_t *out_len)
{
    const struct {
        struct sp_view name;
        struct sp_view value;
    } parts[] = {
        {SP_VIEW_LIT("{gateway}"), sp_view_str(gateway)},
        {SP_VIEW_LIT("{device}"), device},
        {SP_VIEW_LIT("{rest}"), rest_of(filter, topic)},
    };
    struct sp_writer w;
    sp_writer_init(&w, out, cap);
    struct sp_view left = sp_view_str(template_text);
    while (left.len > 0) {
        size_t i = 0;
        while (i < 3 && !sp_view_starts(left, parts[i].name)) {
            i++;
        }
        size_t len = i < 3 ? parts[i].name.len : plain_len(left);
        sp_write_view(&w, i < 3 ? parts[i].value : sp_view_first(left, len));
        left = sp_view_from(left, len);
    }
    SP_TRY(w.err);
    struct sp_view name = sp_writer_view(&w);
    if (!sp_topic_name_valid(name)) {
        return SP_ERR_MALFORMED;
    }
    *out_len = name.len;
    return SP_OK;
}
