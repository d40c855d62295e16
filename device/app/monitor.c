/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/app/monitor.h"

#include "libs/link/link.h"
#include "libs/mqtt/topic.h"
#include "libs/senml/senml.h"
#include "sallyport/appkeys.h"

#define COSE_ENCRYPT0 0xD0U
#define COSE_MAC0     0xD1U

static enum sp_err write_line(struct sp_view device, const struct sp_senml_record *record,
                              int64_t now_ms, const struct sp_appkeys_record *opened,
                              const char *protection, struct sp_writer *w)
{
    const struct sp_senml_context context = {
        .device = device,
        .accepted_ms = now_ms,
        .protection = protection,
        .has_sequence = opened != NULL,
        .sequence = opened != NULL ? opened->counter : 0,
    };
    sp_senml_to_line(record, &context, w);
    return w->err;
}

/* Under the group's key, if this device has it; else there are no values. */
static enum sp_err protected_line(struct sp_view topic, struct sp_view payload,
                                  struct sp_appkeys_record *opened, struct sp_view *plain)
{
    psa_status_t status = sp_appkeys_open(topic.ptr, topic.len, payload.ptr, payload.len, opened);
    *plain = sp_view(opened->plain, status == PSA_SUCCESS ? opened->len : 0);
    return status == PSA_SUCCESS || status == PSA_ERROR_DOES_NOT_EXIST ? SP_OK
           : status == PSA_ERROR_ALREADY_EXISTS                        ? SP_ERR_EXISTS
                                                                       : SP_ERR_UNTRUSTED;
}

static enum sp_err record_line(struct sp_view topic, struct sp_view device, struct sp_view payload,
                               int64_t now_ms, struct sp_writer *w)
{
    static struct sp_appkeys_record opened; /* one monitor per device; large for a small stack */
    struct sp_senml_record record = {0};
    struct sp_view plain = payload;
    uint8_t first = payload.len != 0 ? payload.ptr[0] : 0;
    bool is_protected = first == COSE_ENCRYPT0 || first == COSE_MAC0;
    const char *protection = first == COSE_ENCRYPT0 ? "sealed"
                             : first == COSE_MAC0   ? "mac"
                                                    : "clear";
    if (is_protected) {
        SP_TRY(protected_line(topic, payload, &opened, &plain));
    }
    bool known = !is_protected || plain.len > 0;
    if (known) {
        SP_TRY(sp_senml_parse(plain, device, &record));
    }
    enum sp_err err =
        write_line(device, &record, now_ms, is_protected && known ? &opened : NULL, protection, w);
    sp_wipe(&opened, sizeof(opened));
    return err;
}

enum sp_err sp_monitor_line(struct sp_view topic, struct sp_view payload, int64_t now_ms,
                            struct sp_writer *w)
{
    if (sp_topic_matches(SP_VIEW_LIT("dt/+/climate"), topic)) {
        struct sp_view device = sp_view_first(sp_view_from(topic, 3), topic.len - 11U);
        return sp_link_identity_valid(device) ? record_line(topic, device, payload, now_ms, w)
                                              : SP_ERR_MALFORMED;
    }
    if (!sp_topic_matches(SP_VIEW_LIT("fused/+"), topic)) {
        return SP_ERR_UNSUPPORTED;
    }
    sp_write_str(w, "{\"fused\":");
    sp_json_write_string(w, sp_view_from(topic, 6));
    sp_write_str(w, ",\"document\":");
    sp_json_write_string(w, payload);
    sp_write_str(w, "}");
    return w->err;
}
