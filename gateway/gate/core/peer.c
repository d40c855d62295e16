/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

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

const char *sp_peer_format(const struct sp_peer *peer, char *out)
{
    char address[INET6_ADDRSTRLEN] = "?";
    (void)inet_ntop(peer->family, peer->address, address, sizeof(address));
    (void)snprintf(out, SP_PEER_TEXT_MAX, peer->family == AF_INET6 ? "[%s]:%u" : "%s:%u", address,
                   (unsigned)peer->port);
    return out;
}
