/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/link/link.h"

#include "libs/cose/crypto.h"

const char *sp_link_method(enum sp_link_binding binding)
{
    return binding == SP_LINK_BINDING_TLS ? "sp-psa-iat-1" : "sp-psa-iat-raw-1";
}

static bool alphanumeric(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool sp_link_identity_valid(struct sp_view identity)
{
    if (identity.len == 0 || identity.len > SP_LINK_IDENTITY_MAX) {
        return false;
    }
    for (size_t i = 0; i < identity.len; i++) {
        uint8_t c = identity.ptr[i];
        bool mark = c == '.' || c == '_' || c == '-';
        if (!alphanumeric(c) && !(mark && i > 0)) {
            return false;
        }
    }
    return true;
}

enum sp_err sp_link_challenge(enum sp_link_binding binding, struct sp_view nonce,
                              struct sp_view exporter, struct sp_view identity, uint8_t *out)
{
    bool bound = binding == SP_LINK_BINDING_TLS;
    if (nonce.len != SP_LINK_NONCE_LEN || (bound && exporter.len != SP_LINK_EXPORTER_LEN) ||
        !sp_link_identity_valid(identity)) {
        return SP_ERR_ARGUMENT;
    }
    struct sp_view no_exporter = {NULL, 0};
    const struct sp_view parts[] = {sp_view_str(sp_link_method(binding)), nonce,
                                    bound ? exporter : no_exporter, identity};
    return sp_crypto_hash(SP_SHA256, parts, sizeof(parts) / sizeof(parts[0]), out);
}
