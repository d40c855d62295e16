/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The device application: keeps an attested MQTT 5 connection to the gateway, publishes what the sensor service
 * gives, hands out what a monitor receives.
 *
 * It calls no operating system: bytes go through a channel, time and randomness come from the caller, secrets and
 * sensor are behind PSA APIs. One thread. After any failure it comes back by itself, with exponential
 * back-off and full jitter. The caller runs sp_app_step() whenever the network moved and at the time it returned.
 */
#ifndef SP_DEVICE_APP_APP_H
#define SP_DEVICE_APP_APP_H

#include "device/app/channel.h"
#include "libs/link/link.h"
#include "libs/mqtt/client.h"
#include "sallyport/appkeys.h"
#include "sallyport/sensor.h"

#define SP_APP_QUEUE_MAX \
    16U /**< records that wait for the gateway; the sensor rests while it is full */
#define SP_APP_BUFFER 4096U /**< bytes each way; also the largest packet taken */

enum sp_app_role { SP_APP_SENSOR, SP_APP_MONITOR };

struct sp_app_config {
    struct sp_view identity; /**< borrowed for good */
    enum sp_link_binding binding;
    enum sp_app_role role;
    uint32_t period_ms;      /**< between readings; ≥ 1 */
    uint64_t count;          /**< records to send or to receive before sp_app_done(); 0 = no end */
    uint16_t keep_alive;     /**< seconds */
    uint32_t backoff_min_ms; /**< first wait at most that long, doubled with each failure … */
    uint32_t backoff_max_ms; /**< … up to this */
};

/** psa_initial_attest_get_token(), or something that stands in for it. */
typedef psa_status_t sp_app_attest(const uint8_t *challenge, size_t challenge_len, uint8_t *token,
                                   size_t cap, size_t *token_len);

/** What the application needs from the system it runs on. */
struct sp_app_seams {
    struct sp_channel channel;
    sp_app_attest *attest;
    void *ctx; /**< for the functions below */
    /** Four random bytes, for jitter only. */
    uint32_t (*random)(void *ctx);
    /** Something happened. `code` is a reason code, a number or -1; `text` came from outside: escape it. */
    void (*log)(void *ctx, const char *event, int32_t code, struct sp_view text);
    /** A monitor got a record or a fusion document. `utc_seconds`: now, or 0 when not known. */
    void (*record)(void *ctx, struct sp_view topic, struct sp_view payload, int64_t utc_seconds);
};

enum sp_app_state {
    SP_APP_WAITING,  /**< until `due_ms`, then open the channel */
    SP_APP_SECURING, /**< connecting, TLS handshake */
    SP_APP_JOINING,  /**< MQTT CONNECT and attestation */
    SP_APP_ONLINE,   /**< attested */
};

/** Caller's storage, about 16 KiB. The first block may be read, the rest is private. */
struct sp_app {
    enum sp_app_state state;
    uint64_t accepted; /**< records that the gateway acknowledged with success */
    uint64_t rejected; /**< records that it will never take */
    uint64_t received; /**< monitor: records handed out */
    uint32_t refusals; /**< times the gateway said that we may not connect */

    struct sp_app_config config;
    struct sp_app_seams seams;
    struct sp_mqtt_client mqtt;
    struct sp_mqtt_slot
        slots[1];      /* one on its way: a record that is to be repeated never changes the order */
    unsigned failures; /* in a row */
    uint64_t due_ms;   /* WAITING: when to open; SECURING: when to give up */
    bool started;      /* was ONLINE once: readings are taken */
    uint64_t next_reading_ms;
    uint64_t readings;
    bool in_flight;        /* the first record of the queue was sent and not answered */
    uint64_t publish_ms;   /* not before: the gateway could not store it */
    uint32_t publish_wait; /* ms; doubles */
    int64_t utc_offset;    /* UTC seconds = offset + now / 1000; 0 = not known */
    size_t queue_head;
    size_t queue_used;
    struct sp_sensor_record queue[SP_APP_QUEUE_MAX];
    bool ack_in_flight; /* it is the answer to a grant that was sent and not answered */
    size_t ack_len;     /* an answer that waits; 0: none */
    uint8_t ack[SP_APPKEYS_ACK_MAX];
    size_t rx_used;
    size_t tx_used;
    uint8_t rx[SP_APP_BUFFER];
    uint8_t tx[SP_APP_BUFFER];
};

/** @param[in] config, seams Copied. @retval SP_ERR_ARGUMENT An impossible configuration. */
SP_MUST_CHECK enum sp_err sp_app_init(struct sp_app *app, const struct sp_app_config *config,
                                      const struct sp_app_seams *seams);

/**
 * Do what can be done now. @param[in] now_ms A monotonic clock.
 * @return When to be called again at the latest, on the same clock.
 */
uint64_t sp_app_step(struct sp_app *app, uint64_t now_ms);

/** All records of config.count are acknowledged (or refused for good), or received. */
bool sp_app_done(const struct sp_app *app);

/** Say goodbye and close; what can't be written at once is not waited for. */
void sp_app_stop(struct sp_app *app);

#endif
