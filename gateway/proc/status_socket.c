/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/proc/status_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME         "control.sock"
#define DOCUMENT_MAX (1U << 20)

/* A socket's address has room for 107 bytes; through an open folder any path fits. @return the folder's fd, or -1. */
static int address_of(const char *state_dir, struct sockaddr_un *out)
{
    int folder = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d/" NAME, folder);
    return folder;
}

enum sp_err sp_status_listen(const char *state_dir, int *out)
{
    struct sockaddr_un address;
    int folder = address_of(state_dir, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool ok = folder >= 0 && fd >= 0;
    if (ok) {
        (void)unlinkat(folder, NAME, 0); /* the lock says that nobody else uses it */
        mode_t before = umask(0177);
        ok = bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
             listen(fd, 16) == 0;
        (void)umask(before);
    }
    int saved = errno;
    if (folder >= 0) {
        close(folder);
    }
    if (!ok && fd >= 0) {
        close(fd);
    }
    errno = saved;
    if (!ok) {
        return SP_ERR_IO;
    }
    *out = fd;
    return SP_OK;
}

void sp_status_unlink(const char *state_dir)
{
    int folder = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        (void)unlinkat(folder, NAME, 0);
        close(folder);
    }
}

/* All that comes until the end, with a NUL behind it. */
static char *read_document(int fd)
{
    size_t used = 0;
    char *text = malloc(DOCUMENT_MAX + 1U);
    ssize_t n = text != NULL ? 1 : 0;
    while (n > 0 && used < DOCUMENT_MAX) {
        n = read(fd, text + used, DOCUMENT_MAX - used);
        used += n > 0 ? (size_t)n : 0U;
    }
    if (text == NULL || n != 0 || used == 0) {
        free(text);
        return NULL;
    }
    text[used] = '\0';
    return text;
}

enum sp_err sp_status_ask(const char *state_dir, char **out)
{
    struct sockaddr_un address;
    const struct timeval patience = {.tv_sec = 5};
    enum sp_err err = SP_OK;
    int folder = address_of(state_dir, &address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *out = NULL;
    if (folder < 0 || fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0) {
        err = SP_ERR_IO;
    } else if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        err = errno == ENOENT || errno == ECONNREFUSED ? SP_ERR_CLOSED : SP_ERR_IO;
    } else {
        *out = read_document(fd);
        err = *out != NULL ? SP_OK : SP_ERR_IO;
    }
    int saved = errno;
    if (folder >= 0) {
        close(folder);
    }
    if (fd >= 0) {
        close(fd);
    }
    errno = saved;
    return err;
}
