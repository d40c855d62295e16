/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Connections of simulated devices, all on one epoll loop in one thread.
 *
 * A device is opened, becomes ready (admitted, and subscribed when it has a filter), is closed, and may be opened
 * again. What happens to it is told through hooks, which run inside sp_fleet_poll() and may close the device they
 * are called for, but must not send through another one.
 */
#ifndef SP_BENCH_FLEET_DEVICE_H
#define SP_BENCH_FLEET_DEVICE_H

#include "bench/fleet/fleet_file.h"
#include "bench/fleet/options.h"
#include "bench/fleet/talk.h"
#include "bench/fleet/tls.h"

#include <netinet/in.h>

#define SP_FLEET_IN_FLIGHT \
    1024U /**< QoS 1 publishes that one device may have unacknowledged; power of two */

struct sp_fleet;

enum sp_device_phase {
    SP_DEVICE_AWAY,
    SP_DEVICE_CONNECTING,
    SP_DEVICE_HANDSHAKE,
    SP_DEVICE_TALKING, /**< CONNECT is sent */
    SP_DEVICE_READY,
    SP_DEVICE_CLOSING, /**< DISCONNECT is sent; waiting for the end of the stream */
};

/** Bytes that wait: ciphertext the socket did not take, or the beginning of an MQTT packet. */
struct sp_device_rest {
    uint8_t *bytes; /**< malloc'ed; NULL when empty */
    size_t len;
};

struct sp_device {
    struct sp_fleet *fleet;
    const struct sp_fleet_member *who;  /**< borrowed */
    const char *filter;                 /**< template, borrowed; NULL: subscribes to nothing */
    const struct sp_fleet_member *peer; /**< for {peer} */
    enum sp_device_phase phase;
    int fd;
    struct sp_fleet_tls *tls;
    struct sp_talk talk;
    struct sp_device_rest unsent;
    struct sp_device_rest partial;
    uint64_t opened_ns; /**< CLOCK_MONOTONIC, likewise below */
    uint64_t sent_ns;
    uint16_t packet_id; /**< last one used */
    uint16_t acked_id;  /**< for hooks->acked: the packet that it is about */
    uint32_t in_flight;
    uint64_t *
        published_ns; /**< SP_FLEET_IN_FLIGHT entries by packet id; NULL for what never publishes */
};

struct sp_fleet_hooks {
    void (*ready)(struct sp_device *device);
    void (*message)(struct sp_device *device, const struct sp_mqtt_publish *message);
    /** `ns`: since it was published. */
    void (*acked)(struct sp_device *device, uint8_t reason, uint64_t ns);
    /** The device is away. `asked`: sp_device_close() was called. */
    void (*closed)(struct sp_device *device, bool asked);
};

#define SP_FLEET_COMPLAINTS 8U

struct sp_fleet {
    const struct sp_fleet_options *options;
    const struct sp_fleet_hooks *hooks;
    void *scenario; /**< for the hooks */
    struct sockaddr_in gateway;
    int epoll;
    uint32_t opened; /**< connections so far: picks the source address */
    uint64_t now_ns; /**< read again for each device that has something to say */
    bool told;       /**< a line came on stdin */
    bool stop;       /**< signal, or stdin was closed while paced */
    struct {
        char text[128];
        uint64_t count;
    } complaints[SP_FLEET_COMPLAINTS]; /**< why connections ended that nobody asked to end */
    struct sp_device *sender;          /**< whom `out` belongs to */
    size_t out_used;
    uint8_t in[65536];
    uint8_t out[262144];
    uint8_t plain[262144];
};

/**
 * `fleet` zeroed by the caller, with options set.
 * @retval SP_ERR_ARGUMENT No such address.
 * @retval SP_ERR_IO       No epoll, or a paced fleet's stdin is nothing to wait for.
 */
SP_MUST_CHECK enum sp_err sp_fleet_open(struct sp_fleet *fleet);
void sp_fleet_close(struct sp_fleet *fleet);

/** Wait at most `timeout_ns` for something to happen and deal with all that did. */
void sp_fleet_poll(struct sp_fleet *fleet, uint64_t timeout_ns);

/** Count a complaint under its text. */
void sp_fleet_complain(struct sp_fleet *fleet, const char *text);

uint64_t sp_fleet_clock(void); /**< CLOCK_MONOTONIC, nanoseconds */
double sp_fleet_time(void);    /**< seconds since 1970 */

/** Start to connect. On failure hooks->closed is called. */
void sp_device_open(struct sp_device *device);

/** Say DISCONNECT and close_notify; hooks->closed follows when the gateway has closed too. */
void sp_device_close(struct sp_device *device);

/** Drop it, no hook. */
void sp_device_deinit(struct sp_device *device);

/**
 * Publish on a READY device; it leaves with sp_device_flush(). The caller keeps in_flight below both
 * SP_FLEET_IN_FLIGHT and talk.receive_maximum for QoS 1.
 */
void sp_device_publish(struct sp_device *device, struct sp_view topic, struct sp_view payload,
                       uint8_t qos);
void sp_device_flush(struct sp_device *device);

/** PINGREQ, if it has said nothing for three quarters of its keep-alive. */
void sp_device_keep_alive(struct sp_device *device);

/** Fill `{id}` and `{peer}` in. @return Length, 0 when it does not fit. */
size_t sp_device_fill(const char *template_text, const struct sp_fleet_member *who,
                      const struct sp_fleet_member *peer, char *out, size_t cap);

#endif
