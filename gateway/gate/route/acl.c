/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/acl.h"

#include "libs/link/link.h"
#include "libs/mqtt/topic.h"

#include <string.h>

#define EXPANDED_MAX 512U

/* `dt/<device>/` or the whole of `dt/<device>/climate`. */
static struct sp_view own_topic(struct sp_view device, const char *rest, struct sp_writer *w)
{
    sp_write_str(w, "dt/");
    sp_write_view(w, device);
    sp_write_str(w, rest);
    return sp_writer_view(w);
}

bool sp_acl_is_record(struct sp_view device, struct sp_view topic)
{
    uint8_t text[SP_LINK_IDENTITY_MAX + 16];
    struct sp_writer w;
    sp_writer_init(&w, text, sizeof(text));
    return sp_view_equal(topic, own_topic(device, "/climate", &w));
}

static bool ends_with(struct sp_view text, const char *end)
{
    size_t len = strlen(end);
    return text.len >= len && memcmp(text.ptr + text.len - len, end, len) == 0;
}

static bool is_any_record(struct sp_view topic)
{
    return sp_topic_matches(SP_VIEW_LIT("dt/+/climate"), topic);
}

/* Names under `$` are for filters that say so; these are for nobody. */
static bool is_reserved(struct sp_view topic)
{
    static const char *const ours[] = {"$sp/", "$share/", "$SYS", "$CONTROL"};
    for (size_t i = 0; topic.ptr[0] == '$' && i < sizeof(ours) / sizeof(ours[0]); i++) {
        if (sp_view_starts(topic, sp_view_str(ours[i]))) {
            return true;
        }
    }
    return false;
}

/* Fill `{device}` in. The empty view, which matches nothing, when the result would be absurdly long. */
static struct sp_view expand(const char *filter, struct sp_view device, struct sp_writer *w)
{
    static const char place[] = "{device}";
    const char *at;
    while ((at = strstr(filter, place)) != NULL) {
        sp_write_view(w, sp_view(filter, (size_t)(at - filter)));
        sp_write_view(w, device);
        filter = at + sizeof(place) - 1;
    }
    sp_write_str(w, filter);
    return sp_writer_view(w);
}

typedef bool (*compare_fn)(struct sp_view filter, struct sp_view what);

static bool any(char **filters, struct sp_view device, struct sp_view what, compare_fn allows)
{
    for (; filters != NULL && *filters != NULL; filters++) {
        uint8_t text[EXPANDED_MAX];
        struct sp_writer w;
        sp_writer_init(&w, text, sizeof(text));
        struct sp_view filter = expand(*filters, device, &w);
        if (filter.len > 0 && allows(filter, what)) {
            return true;
        }
    }
    return false;
}

bool sp_acl_may_publish(const struct sp_role_config *role, struct sp_view device,
                        struct sp_view topic)
{
    if (topic.len == 0 || is_reserved(topic) ||
        (is_any_record(topic) && !sp_acl_is_record(device, topic))) {
        return false;
    }
    return any(role->publish, device, topic, sp_topic_matches);
}

bool sp_acl_may_will(const struct sp_role_config *role, struct sp_view device, struct sp_view topic)
{
    uint8_t text[SP_LINK_IDENTITY_MAX + 8];
    struct sp_writer w;
    sp_writer_init(&w, text, sizeof(text));
    struct sp_view own = own_topic(device, "/", &w);
    bool inside = own.len > 0 && sp_view_starts(topic, own) && !ends_with(topic, "/climate");
    bool elsewhere = role->any_will && !is_any_record(topic);
    return (inside || elsewhere) && sp_acl_may_publish(role, device, topic);
}

bool sp_acl_may_subscribe(const struct sp_role_config *role, struct sp_view device,
                          struct sp_view filter)
{
    if (sp_view_starts(filter, SP_VIEW_LIT(SP_LINK_TOPIC_PREFIX))) {
        return true;
    }
    return any(role->subscribe, device, filter, sp_topic_covers);
}

bool sp_acl_may_keep(const struct sp_role_config *role, struct sp_view device,
                     struct sp_view filter)
{
    struct sp_view name;
    bool shared = sp_topic_share(filter, &name, &filter) == SP_OK;
    return sp_acl_may_subscribe(role, device, filter) && (!shared || role->shared_subscriptions);
}
