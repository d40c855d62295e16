/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/boot_posix.h"

#include "libs/cose/crypto.h"

#include <fcntl.h>
#include <psa/crypto.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIFECYCLE_SECURED 0x3000U

/* Names the kind of device, as an implementation id does; one process is like another. */
static const char implementation[] = "sallyport-device/posix";

static enum sp_err hash_file(int fd, uint8_t *out)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size <= 0) {
        return SP_ERR_IO;
    }
    size_t len = (size_t)st.st_size;
    void *image = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (image == MAP_FAILED) {
        return SP_ERR_IO;
    }
    struct sp_view part = sp_view(image, len);
    enum sp_err err = sp_crypto_hash(SP_SHA256, &part, 1, out);
    (void)munmap(image, len);
    return err;
}

enum sp_err sp_boot_posix_measure(struct sp_boot_record *out)
{
    *out = (struct sp_boot_record){.lifecycle = LIFECYCLE_SECURED, .component_count = 1};
    out->components[0] = (struct sp_boot_component){.type = "NSPE", .version = ""};
    sp_copy(out->implementation_id, implementation, sizeof(implementation) - 1U);
    if (psa_crypto_init() != PSA_SUCCESS) {
        return SP_ERR_CRYPTO;
    }
    if (getrandom(out->boot_seed, sizeof(out->boot_seed), 0) != (ssize_t)sizeof(out->boot_seed)) {
        return SP_ERR_IO;
    }
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return SP_ERR_IO;
    }
    enum sp_err err = hash_file(fd, out->components[0].value);
    (void)close(fd);
    return err;
}
