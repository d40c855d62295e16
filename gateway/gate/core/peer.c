/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "libs/base/bytes.h"

void sp_peer_set(struct sp_peer *peer, const struct sockaddr_storage *address)
{
    *peer = (struct sp_peer){.family = address->ss_family};
    if (address->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address, sizeof(in));
        memcpy(peer->address, &in.sin_addr, sizeof(in.sin_addr));
        peer->port = ntohs(in.sin_port);
    } else if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof(in6));
        memcpy(peer->address, &in6.sin6_addr, sizeof(in6.sin6_addr));
        peer->port = ntohs(in6.sin6_port);
    }
}

static void write_v4(struct sp_writer *w, const uint8_t *address)
{
    for (size_t i = 0; i < 4; i++) {
        sp_write_str(w, i == 0 ? "" : ".");
        sp_write_dec(w, address[i]);
    }
}

static void write_v6(struct sp_writer *w, const uint8_t *address)
{
    char text[INET6_ADDRSTRLEN] = "?";
    (void)inet_ntop(AF_INET6, address, text, sizeof(text));
    sp_write_str(w, "[");
    sp_write_str(w, text);
    sp_write_str(w, "]");
}

/* By hand: printf() would take as long as all the rest of a line in the log. */
const char *sp_peer_format(const struct sp_peer *peer, char *out)
{
    struct sp_writer w;
    sp_writer_init(&w, out, SP_PEER_TEXT_MAX - 1U);
    if (peer->family == AF_INET) {
        write_v4(&w, peer->address);
    } else if (peer->family == AF_INET6) {
        write_v6(&w, peer->address);
    } else {
        sp_write_str(&w, "?");
    }
    sp_write_str(&w, ":");
    sp_write_dec(&w, peer->port);
    out[w.used] = '\0';
    return out;
}
