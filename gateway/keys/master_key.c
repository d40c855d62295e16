/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/master_key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/keys/folder.h"
#include "gateway/keys/vault.h"

#define HEX_LEN (2U * SP_MASTER_KEY_LEN)

static enum sp_err open_file(const char *file, int *out, struct sp_fault *fault)
{
    int fd = open(file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        *out = fd;
        return SP_OK;
    }
    if (errno == ELOOP) {
        sp_fault_set(fault, "master key %s is a symbolic link; name the file itself", file);
        return SP_ERR_DENIED;
    }
    sp_fault_set(fault, "cannot open master key %s: %s", file, strerror(errno));
    return errno == ENOENT ? SP_ERR_NOT_FOUND : SP_ERR_IO;
}

static enum sp_err check_rights(int fd, const char *file, struct sp_fault *fault)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        sp_fault_set(fault, "cannot look at master key %s: %s", file, strerror(errno));
        return SP_ERR_IO;
    }
    if (!S_ISREG(st.st_mode)) {
        sp_fault_set(fault, "master key %s is not a regular file", file);
        return SP_ERR_DENIED;
    }
    if ((st.st_mode & 077) != 0) {
        sp_fault_set(fault, "master key %s is open to group or others; run: chmod 600 %s", file,
                     file);
        return SP_ERR_DENIED;
    }
    if (geteuid() != 0 && st.st_uid != geteuid() && st.st_uid != 0) {
        sp_fault_set(fault, "master key %s belongs to another user", file);
        return SP_ERR_DENIED;
    }
    return SP_OK;
}

static enum sp_err parse(const uint8_t *text, size_t len, uint8_t *key)
{
    if (len == SP_MASTER_KEY_LEN) {
        sp_copy(key, text, len);
        return SP_OK;
    }
    if (len == HEX_LEN + 1 && text[HEX_LEN] == '\n') {
        len--;
    }
    size_t key_len = 0;
    if (len != HEX_LEN) {
        return SP_ERR_MALFORMED;
    }
    return sp_hex_parse(sp_view(text, len), key, SP_MASTER_KEY_LEN, &key_len);
}

enum sp_err sp_master_key_read(const char *file, uint8_t *key, struct sp_fault *fault)
{
    int fd = -1;
    SP_TRY(open_file(file, &fd, fault));
    uint8_t text[HEX_LEN + 2];
    enum sp_err err = check_rights(fd, file, fault);
    if (err == SP_OK) {
        ssize_t len = read(fd, text, sizeof(text));
        if (len < 0) {
            sp_fault_set(fault, "cannot read master key %s: %s", file, strerror(errno));
            err = SP_ERR_IO;
        } else if (parse(text, (size_t)len, key) != SP_OK) {
            sp_fault_set(fault, "master key %s does not hold 32 bytes or 64 hex digits", file);
            err = SP_ERR_MALFORMED;
        }
    }
    sp_wipe(text, sizeof(text));
    (void)close(fd);
    return err;
}

enum sp_err sp_master_key_make(const char *file, struct sp_fault *fault)
{
    uint8_t key[SP_MASTER_KEY_LEN];
    char text[HEX_LEN + 2];
    SP_TRY(sp_vault_random(key, sizeof(key)));
    sp_hex_format(SP_VIEW_ARRAY(key), text);
    text[HEX_LEN] = '\n';
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    enum sp_err err = SP_OK;
    if (fd < 0) {
        err = errno == EEXIST ? SP_ERR_EXISTS : SP_ERR_IO;
        sp_fault_set(fault, "cannot make master key %s: %s", file, strerror(errno));
    } else {
        ssize_t want = (ssize_t)HEX_LEN + 1;
        bool ok = write(fd, text, (size_t)want) == want && fsync(fd) == 0;
        ok = close(fd) == 0 && ok;
        if (!ok || !sp_folder_sync(file)) {
            sp_fault_set(fault, "cannot write master key %s: %s", file, strerror(errno));
            (void)unlink(file);
            err = SP_ERR_IO;
        }
    }
    sp_wipe(key, sizeof(key));
    sp_wipe(text, sizeof(text));
    return err;
}
