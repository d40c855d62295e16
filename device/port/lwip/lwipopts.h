/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file lwIP for one task and one TCP connection: raw API, no threads, IPv4 with a static address. */
#ifndef SP_DEVICE_PORT_LWIP_LWIPOPTS_H
#define SP_DEVICE_PORT_LWIP_LWIPOPTS_H

#define NO_SYS               1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN         0
#define LWIP_SOCKET          0
#define LWIP_HOOK_FILENAME   "device/port/lwip/hooks.h"

#define LWIP_IPV4     1
#define LWIP_IPV6     0
#define LWIP_ARP      1
#define LWIP_ICMP     1
#define LWIP_UDP      0
#define LWIP_DHCP     0
#define LWIP_DNS      0
#define LWIP_RAW      0
#define LWIP_TCP      1
#define IP_FORWARD    0
#define IP_REASSEMBLY 0
#define IP_FRAG       0

#define MEM_ALIGNMENT           4
#define MEM_SIZE                12288
#define MEMP_NUM_TCP_PCB        4
#define MEMP_NUM_TCP_PCB_LISTEN 1
#define MEMP_NUM_TCP_SEG        16
#define PBUF_POOL_SIZE          12

#define TCP_MSS                            1460
#define TCP_WND                            (4 * TCP_MSS)
#define TCP_SND_BUF                        (2 * TCP_MSS)
#define TCP_SND_QUEUELEN                   8
#define LWIP_RANDOMIZE_INITIAL_LOCAL_PORTS 1

/* A connection whose other end is gone is noticed in less than a minute. */
#define LWIP_TCP_KEEPALIVE 1
#define TCP_MAXRTX         6
#define TCP_SYNMAXRTX      4

#define LWIP_STATS          0
#define LWIP_NETIF_HOSTNAME 0
#define CHECKSUM_CHECK_IP   1
#define CHECKSUM_CHECK_TCP  1

#endif
