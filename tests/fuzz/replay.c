/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Every kept input of a fuzz target (tests/fuzz/NAME) through it once, in any build: what a fuzzer has found stays found. The name
 * of each input is printed before it is tried, so that the last one is the culprit.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *folder, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)fprintf(stderr, "%s cannot be read\n", path);
        return 1;
    }
    size_t cap = 1U << 20;
    uint8_t *whole = malloc(cap);
    size_t len = whole == NULL ? 0 : fread(whole, 1, cap, file);
    uint8_t *exact =
        malloc(len + (len == 0)); /* no byte behind it that a sanitizer would let pass */
    (void)fclose(file);
    if (whole == NULL || exact == NULL) {
        free(whole);
        free(exact);
        return 1;
    }
    memcpy(exact, whole, len);
    free(whole);
    printf("%s\n", name);
    (void)fflush(stdout);
    (void)LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    return 0;
}

int main(int argc, char **argv)
{
    struct dirent **entries = NULL;
    int failed = 0;
    int count = argc == 2 ? scandir(argv[1], &entries, NULL, alphasort) : -1;
    if (count < 0) {
        (void)fprintf(stderr, "replay FOLDER\n");
        return 2;
    }
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.') {
            failed |= replay(argv[1], entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    printf("%d passed, %d failed\n", failed == 0, failed != 0);
    return failed;
}
