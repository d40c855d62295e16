/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/bundle_cjson.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_bundle bundle;
    const char *why = NULL;
    if (sp_bundle_parse(sp_view(data, size), &bundle, &why) == SP_OK &&
        (bundle.psk_len < 16 || bundle.iak_len < 32 || bundle.profile.suites == 0)) {
        __builtin_trap();
    }
    return 0;
}
