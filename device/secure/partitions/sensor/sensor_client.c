/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "psa/client.h"
#include "psa_manifest/sid.h"
#include "sallyport/sensor.h"

psa_status_t sp_sensor_read_record(int64_t utc_seconds, struct sp_sensor_record *out)
{
    psa_invec in[] = {{&utc_seconds, sizeof(utc_seconds)}};
    psa_outvec outs[] = {{out->topic, sizeof(out->topic)}, {out->payload, sizeof(out->payload)}};
    psa_status_t status = psa_call(SP_SENSOR_SERVICE_HANDLE, SP_SENSOR_READ_RECORD, in, 1, outs, 2);
    if (status == PSA_SUCCESS) {
        out->topic_len = outs[0].len;
        out->payload_len = outs[1].len;
    }
    return status;
}
