/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What printf() of the C library needs under it, by semihosting; for test images. */
#include "device/secure/test/ns/semihosting.h"

#include <stddef.h>
#include <sys/stat.h>

extern char __heap_start[];
extern char __heap_end[];

int _write(int file, const char *bytes, int len);
int _read(int file, char *bytes, int len);
int _close(int file);
int _lseek(int file, int offset, int whence);
int _fstat(int file, struct stat *st);
int _isatty(int file);
void *_sbrk(ptrdiff_t increment);
int _open(const char *name, int flags, int mode);
int _kill(int process, int number);
int _getpid(void);
_Noreturn void _exit(int code);

int _write(int file, const char *bytes, int len)
{
    (void)file;
    char text[2] = {0};
    for (int i = 0; i < len; i++) {
        text[0] = bytes[i];
        sp_semihosting_write(text);
    }
    return len;
}

int _read(int file, char *bytes, int len)
{
    (void)file;
    (void)bytes;
    (void)len;
    return 0;
}

int _close(int file)
{
    (void)file;
    return -1;
}

int _lseek(int file, int offset, int whence)
{
    (void)file;
    (void)offset;
    (void)whence;
    return 0;
}

int _fstat(int file, struct stat *st)
{
    (void)file;
    st->st_mode = S_IFCHR;
    return 0;
}

int _isatty(int file)
{
    (void)file;
    return 1;
}

void *_sbrk(ptrdiff_t increment)
{
    static char *end = __heap_start;
    if (increment > __heap_end - end) {
        return (void *)-1; /* NOLINT: the C library's way to say so */
    }
    char *start = end;
    end += increment;
    return start;
}

int _open(const char *name, int flags, int mode)
{
    (void)name;
    (void)flags;
    (void)mode;
    return -1;
}

int _kill(int process, int number)
{
    (void)process;
    sp_semihosting_exit((uint32_t)number);
}

int _getpid(void)
{
    return 1;
}

void _exit(int code)
{
    sp_semihosting_exit((uint32_t)code);
}
