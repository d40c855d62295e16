/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/row.h"

#include <stdlib.h>

static struct sp_view place(struct sp_row *row, size_t *used, struct sp_view part)
{
    uint8_t *to = row->data + *used;
    sp_copy(to, part.ptr, part.len);
    *used += part.len;
    return sp_view(to, part.len);
}

struct sp_row *sp_row_create(struct sp_view device, struct sp_view topic, struct sp_view origin,
                             struct sp_view payload)
{
    return sp_row_create_marked(device, topic, origin, payload, (struct sp_view){NULL, 0});
}

struct sp_row *sp_row_create_marked(struct sp_view device, struct sp_view topic,
                                    struct sp_view origin, struct sp_view payload,
                                    struct sp_view group)
{
    size_t bytes = device.len + topic.len + origin.len + payload.len + group.len;
    struct sp_row *row = malloc(sizeof(*row) + bytes);
    if (row == NULL) {
        return NULL;
    }
    *row = (struct sp_row){.stream = sp_row_stream(device)};
    size_t used = 0;
    row->device = place(row, &used, device);
    row->topic = place(row, &used, topic);
    row->origin = place(row, &used, origin);
    row->payload = place(row, &used, payload);
    row->group = place(row, &used, group);
    return row;
}

void sp_row_destroy(struct sp_row *row)
{
    free(row);
}

size_t sp_row_cost(const struct sp_row *row)
{
    return row->device.len + row->topic.len + row->origin.len + row->payload.len + SP_ROW_OVERHEAD;
}

uint32_t sp_row_stream(struct sp_view device)
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < device.len; i++) {
        hash = (hash ^ device.ptr[i]) * 16777619U;
    }
    return hash;
}

void sp_row_list_push(struct sp_row_list *list, struct sp_row *row)
{
    row->next = NULL;
    if (list->tail == NULL) {
        list->head = row;
    } else {
        list->tail->next = row;
    }
    list->tail = row;
    list->count++;
    list->bytes += sp_row_cost(row);
}

struct sp_row *sp_row_list_pop(struct sp_row_list *list)
{
    struct sp_row *row = list->head;
    if (row == NULL) {
        return NULL;
    }
    list->head = row->next;
    if (list->head == NULL) {
        list->tail = NULL;
    }
    list->count--;
    list->bytes -= sp_row_cost(row);
    row->next = NULL;
    return row;
}

void sp_row_list_append(struct sp_row_list *list, struct sp_row_list *from)
{
    if (from->head == NULL) {
        return;
    }
    if (list->tail == NULL) {
        list->head = from->head;
    } else {
        list->tail->next = from->head;
    }
    list->tail = from->tail;
    list->count += from->count;
    list->bytes += from->bytes;
    *from = (struct sp_row_list){0};
}

void sp_row_list_clear(struct sp_row_list *list)
{
    for (struct sp_row *row = sp_row_list_pop(list); row != NULL; row = sp_row_list_pop(list)) {
        sp_row_destroy(row);
    }
}
