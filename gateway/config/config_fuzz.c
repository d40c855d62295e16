/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Any bytes: named faults, or a configuration whose print loads to the same print. */
#include <stdlib.h>
#include <string.h>

#include "gateway/config/config_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *printed(const struct sp_config *config)
{
    char *text = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&text, &len);
    sp_config_print(config, stream);
    (void)fclose(stream);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char faults[4096];
    FILE *stream = fmemopen(faults, sizeof(faults), "w");
    struct sp_config *first;
    if (sp_config_parse("fuzz.yaml", sp_view(data, size), false, stream, &first) == SP_OK) {
        struct sp_config *second;
        char *once = printed(first);
        if (sp_config_parse("fuzz.yaml", sp_view_str(once), false, stderr, &second) != SP_OK) {
            abort();
        }
        char *twice = printed(second);
        if (strcmp(once, twice) != 0) {
            abort();
        }
        free(once);
        free(twice);
        sp_config_destroy(first);
        sp_config_destroy(second);
    }
    (void)fclose(stream);
    return 0;
}
