/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/suites.h"

enum { SMALL = 1, FORWARD = 2, ALL = 4 };

/* In the order of preference of docs/protocol.md 1: ECDHE, DHE, plain. All with SHA-256, as the PSK's policy asks. */
static const struct {
    const char *name;
    int code;
    unsigned sets;
    bool needs_etm;
} suites[] = {
    {"TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256", 0xCCAC, SMALL | FORWARD | ALL, false},
    {"TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256", 0xC037, SMALL | FORWARD | ALL, true},
    {"TLS_DHE_PSK_WITH_CHACHA20_POLY1305_SHA256", 0xCCAD, SMALL | FORWARD | ALL, false},
    {"TLS_DHE_PSK_WITH_AES_128_GCM_SHA256", 0x00AA, SMALL | FORWARD | ALL, false},
    {"TLS_DHE_PSK_WITH_AES_128_CCM", 0xC0A6, SMALL | FORWARD | ALL, false},
    {"TLS_PSK_DHE_WITH_AES_128_CCM_8", 0xC0AA, SMALL | FORWARD | ALL, false},
    {"TLS_PSK_WITH_CHACHA20_POLY1305_SHA256", 0xCCAB, ALL, false},
    {"TLS_PSK_WITH_AES_128_GCM_SHA256", 0x00A8, SMALL | ALL, false},
    {"TLS_PSK_WITH_AES_128_CCM", 0xC0A4, SMALL | ALL, false},
    {"TLS_PSK_WITH_AES_128_CCM_8", 0xC0A8, SMALL | ALL, false},
    {"TLS_PSK_WITH_AES_128_CBC_SHA256", 0x00AE, ALL, true},
};

#define COUNT (sizeof(suites) / sizeof(suites[0]))
_Static_assert(COUNT <= SP_DEVICE_SUITES_MAX, "the list fits");

static const struct {
    const char *name;
    unsigned set;
} sets[] = {{"profile-small", SMALL}, {"forward-secret", FORWARD}, {"all", ALL}};

bool sp_device_suites_add(struct sp_view name, uint32_t *mask)
{
    uint32_t found = 0;
    unsigned set = 0;
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        if (sp_view_equal(name, sp_view_str(sets[i].name))) {
            set = sets[i].set;
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        if ((suites[i].sets & set) != 0 || sp_view_equal(name, sp_view_str(suites[i].name))) {
            found |= (uint32_t)1 << i;
        }
    }
    *mask |= found;
    return found != 0;
}

void sp_device_suites_list(uint32_t mask, int *out)
{
    for (size_t i = 0; i < COUNT; i++) {
        if ((mask & (uint32_t)1 << i) != 0) {
            *out++ = suites[i].code;
        }
    }
    *out = 0;
}

bool sp_device_suite_needs_etm(int code)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (suites[i].code == code) {
            return suites[i].needs_etm;
        }
    }
    return false;
}

const char *sp_device_suite_name(int code)
{
    for (size_t i = 0; i < COUNT; i++) {
        if (suites[i].code == code) {
            return suites[i].name;
        }
    }
    return "unknown";
}
