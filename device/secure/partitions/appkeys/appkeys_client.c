/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/appkeys/appkeys_service.h"
#include "psa/client.h"
#include "psa_manifest/sid.h"
#include "sallyport/appkeys.h"

psa_status_t sp_appkeys_grant(const uint8_t *grant, size_t len, uint8_t *ack, size_t cap,
                              size_t *ack_len)
{
    psa_invec in[] = {{grant, len}};
    psa_outvec out[] = {{ack, cap}};
    psa_status_t status = psa_call(SP_APPKEYS_SERVICE_HANDLE, SP_APPKEYS_GRANT, in, 1, out, 1);
    if (status == PSA_SUCCESS) {
        *ack_len = out[0].len;
    }
    return status;
}

psa_status_t sp_appkeys_open(const uint8_t *topic, size_t topic_len, const uint8_t *payload,
                             size_t payload_len, struct sp_appkeys_record *out)
{
    psa_invec in[] = {{topic, topic_len}, {payload, payload_len}};
    psa_outvec outs[] = {{out, sizeof(*out)}};
    return psa_call(SP_APPKEYS_SERVICE_HANDLE, SP_APPKEYS_OPEN, in, 2, outs, 1);
}
