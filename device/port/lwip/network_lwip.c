/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The way to the gateway over Ethernet: lwIP's raw API, driven by the application's task alone (NO_SYS). The interrupt
 * only wakes that task.
 */
#include "device/port/freertos/network.h"

#include "board.h"
#include "device/port/freertos/firmware.h"
#include "device/port/lwip/lan9118.h"

#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <netif/ethernet.h>

#define KEEP_IDLE_MS     15000U
#define KEEP_INTERVAL_MS 5000U
#define KEEP_COUNT       3U
#define NEVER            UINT64_MAX

static struct sp_network_config config;
static struct sp_lan9118 lan;
static struct netif ethernet;
static uint32_t frame[(SP_LAN9118_FRAME_MAX + 3U) / 4U];

/* The one connection. `pcb` is NULL once lwIP has taken it back, whatever the reason. */
static struct {
    struct tcp_pcb *pcb;
    struct pbuf *received; /* not read yet */
    uint16_t offset;       /* read of its first buffer */
    bool connected;
    bool ended; /* the other side sends no more */
    const char *what;
} connection;

u32_t sys_now(void);

u32_t sys_now(void)
{
    return (u32_t)sp_firmware_now();
}

static err_t link_output(struct netif *netif, struct pbuf *p)
{
    (void)netif;
    if (p->tot_len > SP_LAN9118_FRAME_MAX) {
        return ERR_BUF;
    }
    (void)pbuf_copy_partial(p, frame, p->tot_len, 0);
    return sp_lan9118_send(&lan, frame, p->tot_len) ? ERR_OK : ERR_MEM;
}

static err_t init_ethernet(struct netif *netif)
{
    netif->name[0] = 'e';
    netif->name[1] = 'n';
    netif->mtu = 1500;
    netif->hwaddr_len = sizeof(lan.mac);
    sp_copy(netif->hwaddr, lan.mac, sizeof(lan.mac));
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
    netif->output = etharp_output;
    netif->linkoutput = link_output;
    return ERR_OK;
}

static ip4_addr_t address(const uint8_t bytes[4])
{
    ip4_addr_t out;
    IP4_ADDR(&out, bytes[0], bytes[1], bytes[2], bytes[3]);
    return out;
}

static ip4_addr_t netmask(uint8_t prefix_len)
{
    uint32_t mask = prefix_len == 0 ? 0 : UINT32_MAX << (32U - prefix_len);
    ip4_addr_t out = {.addr = lwip_htonl(mask)};
    return out;
}

bool sp_network_start(const struct sp_network_config *wanted)
{
    config = *wanted;
    if (!sp_lan9118_start(&lan, BOARD_ETHERNET_BASE)) {
        return false;
    }
    ip4_addr_t own = address(config.address);
    ip4_addr_t mask = netmask(config.prefix_len);
    ip4_addr_t router = address(config.router);
    lwip_init();
    if (netif_add(&ethernet, &own, &mask, &router, NULL, init_ethernet, ethernet_input) == NULL) {
        return false;
    }
    netif_set_default(&ethernet);
    netif_set_up(&ethernet);
    netif_set_link_up(&ethernet);
    sp_firmware_irq_enable(BOARD_NETWORK_IRQ);
    (void)sp_lan9118_listen(&lan);
    return true;
}

void sp_network_irq(void)
{
    sp_lan9118_hush(&lan);
    sp_firmware_wake();
}

static void receive_frames(void)
{
    do {
        for (size_t len = sp_lan9118_receive(&lan, frame); len != 0;
             len = sp_lan9118_receive(&lan, frame)) {
            struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_POOL);
            if (p == NULL) {
                continue; /* dropped: TCP sends it again */
            }
            (void)pbuf_take(p, frame, (u16_t)len);
            if (ethernet.input(p, &ethernet) != ERR_OK) {
                (void)pbuf_free(p);
            }
        }
    } while (!sp_lan9118_listen(&lan));
}

void sp_network_poll(uint64_t now_ms)
{
    (void)now_ms;
    receive_frames();
    sys_check_timeouts();
}

uint64_t sp_network_due(uint64_t now_ms)
{
    u32_t wait = sys_timeouts_sleeptime();
    return wait == SYS_TIMEOUTS_SLEEPTIME_INFINITE ? NEVER : now_ms + wait;
}

static void drop_received(void)
{
    if (connection.received != NULL) {
        (void)pbuf_free(connection.received);
    }
    connection.received = NULL;
    connection.offset = 0;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    (void)arg;
    (void)pcb;
    connection.connected = err == ERR_OK;
    return ERR_OK;
}

static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    (void)arg;
    (void)pcb;
    (void)err;
    if (p == NULL) {
        connection.ended = true;
    } else if (connection.received == NULL) {
        connection.received = p;
    } else {
        pbuf_cat(connection.received, p);
    }
    return ERR_OK;
}

/* lwIP has freed the pcb. */
static void on_error(void *arg, err_t err)
{
    (void)arg;
    connection.pcb = NULL;
    connection.what = err == ERR_RST || err == ERR_CLSD ? "the gateway reset the connection"
                      : connection.connected            ? "the gateway does not answer any more"
                                                        : "the gateway does not answer";
}

static enum sp_err fail(const char *what)
{
    connection.what = what;
    return SP_ERR_IO;
}

static void tcp_stream_close(void *ctx)
{
    (void)ctx;
    struct tcp_pcb *pcb = connection.pcb;
    connection.pcb = NULL;
    drop_received();
    if (pcb == NULL) {
        return;
    }
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_err(pcb, NULL);
    if (!connection.connected || tcp_close(pcb) != ERR_OK) {
        tcp_abort(pcb);
    }
}

static enum sp_err tcp_stream_open(void *ctx)
{
    tcp_stream_close(ctx);
    connection.connected = false;
    connection.ended = false;
    connection.what = "";
    connection.pcb = tcp_new();
    if (connection.pcb == NULL) {
        return fail("out of connections");
    }
    struct tcp_pcb *pcb = connection.pcb;
    tcp_recv(pcb, on_received);
    tcp_err(pcb, on_error);
    tcp_nagle_disable(pcb);
    ip_set_option(pcb, SOF_KEEPALIVE);
    pcb->keep_idle = KEEP_IDLE_MS;
    pcb->keep_intvl = KEEP_INTERVAL_MS;
    pcb->keep_cnt = KEEP_COUNT;
    ip4_addr_t gateway = address(config.gateway);
    if (tcp_connect(pcb, &gateway, config.gateway_port, on_connected) != ERR_OK) {
        tcp_stream_close(ctx);
        return fail("out of memory");
    }
    return SP_OK;
}

static enum sp_err tcp_stream_ready(void *ctx)
{
    (void)ctx;
    if (connection.pcb == NULL) {
        return SP_ERR_IO;
    }
    return connection.connected ? SP_OK : SP_ERR_AGAIN;
}

static enum sp_err tcp_stream_read(void *ctx, uint8_t *out, size_t cap, size_t *len)
{
    (void)ctx;
    if (connection.received == NULL) {
        return connection.pcb == NULL || connection.ended ? SP_ERR_CLOSED : SP_ERR_AGAIN;
    }
    u16_t want = cap < UINT16_MAX ? (u16_t)cap : UINT16_MAX;
    u16_t got = pbuf_copy_partial(connection.received, out, want, connection.offset);
    connection.offset = (uint16_t)(connection.offset + got);
    while (connection.received != NULL && connection.offset >= connection.received->len) {
        struct pbuf *first = connection.received;
        connection.offset = (uint16_t)(connection.offset - first->len);
        connection.received = first->next;
        if (first->next != NULL) {
            pbuf_ref(first->next);
        }
        (void)pbuf_free(first);
    }
    if (connection.pcb != NULL) {
        tcp_recved(connection.pcb, got);
    }
    *len = got;
    return SP_OK;
}

static enum sp_err tcp_stream_write(void *ctx, struct sp_view bytes, size_t *len)
{
    (void)ctx;
    if (connection.pcb == NULL) {
        return SP_ERR_CLOSED;
    }
    size_t room = tcp_sndbuf(connection.pcb);
    u16_t count = (u16_t)(bytes.len < room ? bytes.len : room);
    if (count == 0 || tcp_write(connection.pcb, bytes.ptr, count, TCP_WRITE_FLAG_COPY) != ERR_OK) {
        (void)tcp_output(connection.pcb);
        return SP_ERR_AGAIN;
    }
    (void)tcp_output(connection.pcb);
    *len = count;
    return SP_OK;
}

static const char *tcp_stream_describe(void *ctx)
{
    (void)ctx;
    return connection.what;
}

struct sp_stream sp_network_stream(void)
{
    return (struct sp_stream){
        .open = tcp_stream_open,
        .ready = tcp_stream_ready,
        .read = tcp_stream_read,
        .write = tcp_stream_write,
        .close = tcp_stream_close,
        .describe = tcp_stream_describe,
    };
}
