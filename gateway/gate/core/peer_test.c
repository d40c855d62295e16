/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "libs/base/test.h"

static char text[SP_PEER_TEXT_MAX];

static const char *shown(int family, const char *address, uint16_t port)
{
    struct sockaddr_storage storage = {.ss_family = (sa_family_t)family};
    struct sp_peer peer;
    if (family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
        SP_CHECK(inet_pton(AF_INET, address, &in.sin_addr) == 1);
        memcpy(&storage, &in, sizeof(in));
    } else if (family == AF_INET6) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        SP_CHECK(inet_pton(AF_INET6, address, &in6.sin6_addr) == 1);
        memcpy(&storage, &in6, sizeof(in6));
    }
    sp_peer_set(&peer, &storage);
    return sp_peer_format(&peer, text);
}

static void a_peer_reads_as_people_write_it(void)
{
    SP_CHECK(strcmp(shown(AF_INET, "127.0.0.1", 4711), "127.0.0.1:4711") == 0);
    SP_CHECK(strcmp(shown(AF_INET, "255.255.255.255", 65535), "255.255.255.255:65535") == 0);
    SP_CHECK(strcmp(shown(AF_INET, "0.10.0.200", 0), "0.10.0.200:0") == 0);
    SP_CHECK(strcmp(shown(AF_INET6, "::1", 1), "[::1]:1") == 0);
    SP_CHECK(strcmp(shown(AF_INET6, "2001:db8:1111:2222:3333:4444:5555:6666", 65535),
                    "[2001:db8:1111:2222:3333:4444:5555:6666]:65535") == 0);
    SP_CHECK(strcmp(shown(AF_INET6, "::ffff:192.168.100.200", 65535),
                    "[::ffff:192.168.100.200]:65535") == 0);
    SP_CHECK(strcmp(shown(AF_UNSPEC, "", 0), "?:0") == 0);
}

static const struct sp_test tests[] = {
    SP_TEST(a_peer_reads_as_people_write_it),
};

SP_TEST_MAIN(tests)
