/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Topic names and filters (MQTT 5, 4.7). Pure; constant stack, linear time. */
#ifndef SP_LIBS_MQTT_TOPIC_H
#define SP_LIBS_MQTT_TOPIC_H

#include "libs/base/bytes.h"

/** A name to publish to: 1..65535 bytes of valid UTF-8 without wildcards. */
bool sp_topic_name_valid(struct sp_view name);

/** A filter: wildcards alone on their level, `#` only as the last one. `$share/…`: see sp_topic_share(). */
bool sp_topic_filter_valid(struct sp_view filter);

/** Levels of a name or filter: slashes + 1. */
size_t sp_topic_levels(struct sp_view topic);

/** `name` is matched by `filter`; a leading wildcard does not match a name that starts with `$`. Both valid. */
bool sp_topic_matches(struct sp_view filter, struct sp_view name);

/** Every name that `inner` matches is matched by `outer` too. Both valid filters. */
bool sp_topic_covers(struct sp_view outer, struct sp_view inner);

/** Some name is matched by both filters. Both valid. */
bool sp_topic_overlaps(struct sp_view a, struct sp_view b);

/**
 * Take `$share/NAME/FILTER` apart.
 * @retval SP_ERR_NOT_FOUND Not a shared subscription.
 * @retval SP_ERR_MALFORMED Starts with `$share/` but has no valid name and filter.
 */
SP_MUST_CHECK enum sp_err sp_topic_share(struct sp_view filter, struct sp_view *name,
                                         struct sp_view *inner);

/**
 * The next level of a topic; levels may be empty.
 * @param[in,out] rest Start with the topic; {NULL, 0} after the last level.
 * @return false at the end.
 */
bool sp_topic_next(struct sp_view *rest, struct sp_view *level);

#endif
