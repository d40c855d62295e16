/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t scratch[SP_HELLO_MAX];
    struct sp_view body;
    struct sp_client_hello hello;
    if (sp_hello_gather(sp_view(data, size), SP_HELLO_CLIENT_HELLO, scratch, &body) == SP_OK &&
        sp_hello_parse(body, &hello) == SP_OK) {
        (void)sp_hello_offers(&hello, 0xC0A8);
    }
    struct sp_view identity;
    if (sp_hello_gather(sp_view(data, size), SP_HELLO_CLIENT_KEY_EXCHANGE, scratch, &body) ==
        SP_OK) {
        (void)!sp_hello_identity(body, &identity);
    }
    return 0;
}
