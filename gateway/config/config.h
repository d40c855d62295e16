/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The gateway's configuration: one YAML file, parsed to a new object, checked whole, then used.
 *
 * The object is read-only after sp_config_load(); processes inherit it by fork. Every string is
 * NUL-terminated and owned by the object. Absent optional strings are NULL.
 */
#ifndef SP_GATEWAY_CONFIG_CONFIG_H
#define SP_GATEWAY_CONFIG_CONFIG_H

#include "gateway/proc/messages.h"
#include "libs/base/bytes.h"

#include <stdatomic.h>
#include <stdio.h>

struct sp_listener_config {
    char *address;   /**< as written: `127.0.0.1:8883`, `[::]:8883` */
    char *host;      /**< numeric address without brackets */
    uint16_t port;   /**< 0: any free port, told in the log line `event=listening` */
    uint32_t suites; /**< SP_SUITES_* */
    char **
        suite_names; /**< single suites named beside the sets (RC4, 3DES), GnuTLS names; NULL-terminated or NULL */
    char *certificate; /**< PEM file for RSA-PSK, or NULL */
    char *key;
};

struct sp_role_config {
    char *name;
    char **publish; /**< filters, `{device}` stands for the device's own id; NULL-terminated */
    char **subscribe;
    bool retain;
    bool shared_subscriptions;
    uint32_t topic_aliases; /**< from a client, and to it */
    uint32_t message_rate;  /**< PUBLISH packets a second from one client; 0: any */
    uint32_t message_burst; /**< at once, 1..; of the role sensor both come from `limits` */
    bool any_will;          /**< on whatever it may publish to; else under dt/<itself>/ only */
};

struct sp_cloud_limits {
    uint32_t publishes_per_second; /**< 0 = no limit; likewise below */
    uint32_t bytes_per_second;
    uint32_t in_flight; /**< 1..65535, never 0 */
    uint32_t packet;
    uint32_t topic_levels;
    uint32_t topic_bytes;
};

struct sp_cloud_config {
    bool enabled;
    char *host;
    uint16_t port;
    char *ca;
    char *certificate;
    char *key;
    char *client_id;
    uint32_t connections; /**< 1.. */
    uint32_t keep_alive_s;
    bool alpn; /**< port 443: offer x-amzn-mqtt-ca */
    enum { SP_CLOUD_MQTT_5, SP_CLOUD_MQTT_311 } version;
    struct sp_cloud_limits limits;
};

struct sp_route_config {
    char *from;  /**< filter on the device's topic */
    char *cloud; /**< template: {gateway} {device} {rest}; NULL: not to the cloud */
    enum sp_format format;
    uint8_t qos; /**< 0 or 1; a message goes at the lower of this and its own */
};

struct sp_command_config {
    char *cloud; /**< filter to subscribe to, {gateway} already filled in */
    char *to;    /**< template: {rest} = what the filter's # stood for, {gateway} */
};

/** A fusion (docs/protocol.md 7). */
struct sp_fusion_config {
    char *name;   /**< identity alphabet; it publishes to fused/<name> */
    char *inputs; /**< filter over sensor records */
    uint32_t window_ms;
    uint32_t late_ms; /**< how long after its end a window takes records; at most window_ms */
    bool declassify;  /**< sealed records may be inputs */
    char *cloud;      /**< template: {gateway}; NULL: not to the cloud */
};

/** sallyport.yaml(5) lists each with its range and default. */
struct sp_limits_config {
    uint32_t handshakes; /**< concurrent, ClientHello to admission; per loop, as the next five */
    uint32_t handshakes_per_address;
    uint32_t handshakes_per_identity;
    uint32_t waiting; /**< connections whose handshake has not begun */
    uint32_t waiting_per_address;
    uint32_t connections_per_address;
    uint32_t connects_per_second; /**< handshakes that begin, per address and loop */
    uint32_t connects_burst;
    uint32_t crowded_timeout_ms; /**< a handshake's, while others wait for its place */
    uint32_t connections;        /**< open, in all */
    uint32_t descriptor_reserve; /**< file descriptors that no device gets */
    uint32_t message_rate;       /**< of the role sensor, as the next: sp_role_config */
    uint32_t message_burst;
    uint32_t turn_messages;      /**< of one client in a turn of its loop */
    uint32_t log_lines;          /**< a second, about connections, per kind; 0: no limit */
    uint32_t preauth_timeout_ms; /**< absolute, accept to verdict */
    uint32_t tls_timeout_ms;
    uint32_t connect_timeout_ms; /**< handshake to CONNECT */
    uint32_t packet;             /**< bytes of an MQTT packet from a device */
    uint32_t receive_maximum;
    uint32_t in_flight;           /**< outgoing QoS 1 and 2 per connection */
    uint32_t session_queue_bytes; /**< for a session that is away or slow */
    uint64_t sessions_bytes;      /**< for all kept sessions, in the journal */
    uint32_t session_expiry_s;    /**< longest that a session is kept */
    uint64_t
        session_queues_bytes;  /**< waiting in memory for all clients; each loop has its share */
    uint32_t write_buffer;     /**< bytes a slow reader may leave unread */
    uint64_t write_buffers;    /**< all of them together; each loop has its share */
    uint32_t stall_timeout_ms; /**< it may take nothing for so long */
    uint32_t keep_alive_min_s;
    uint32_t keep_alive_max_s;
    uint32_t topic_levels;
    uint32_t topic_bytes;
    uint32_t subscriptions; /**< per device */
    uint32_t user_properties;
    uint32_t user_property_bytes;
    uint32_t retained;              /**< messages, in all */
    uint32_t retained_bytes;        /**< of them, in all */
    uint32_t retained_device;       /**< messages that one device may have retained */
    uint32_t retained_device_bytes; /**< of them */
    uint64_t journal_bytes;         /**< payload bytes held for the cloud */
    uint64_t journal_device_bytes;  /**< of them, of one device */
    uint32_t sensors;               /**< devices whose last values are kept, per loop */
    uint32_t history;               /**< values kept of each */
    uint32_t attempts;              /**< refused tokens per device per minute, then 0x97 */
};

struct sp_attestation_config {
    uint32_t reattest_interval_s;
    uint32_t answer_timeout_ms; /**< default of a row */
    unsigned lifecycles;        /**< SP_ATTEST_LIFECYCLE_* */
    bool allow_no_software;
};

struct sp_config {
    atomic_uint references; /**< for sp_config_hold() */
    char *file;
    char *id;
    char *state_dir;  /**< made absolute */
    char *master_key; /**< file; default state_dir/master.key */
    uint32_t threads; /**< ≥ 1: 0 in the file has become the number of cores */
    char *user;       /**< for gate, when started as root; NULL: nobody */
    struct sp_listener_config *listeners;
    size_t listener_count;
    struct sp_role_config *roles; /**< sensor and monitor first, always there */
    size_t role_count;
    struct sp_attestation_config attestation;
    struct sp_cloud_config cloud;
    struct sp_route_config *routes;
    size_t route_count;
    struct sp_command_config *commands;
    size_t command_count;
    struct sp_fusion_config *fusions;
    size_t fusion_count;
    struct sp_limits_config limits;
};

/**
 * Read and check a file with what it includes; touches nothing else.
 *
 * Every fault goes to `faults` as `FILE:LINE: what is wrong, and what would be right`; reading goes on, so that all
 * are named at once. A file that cannot be read is one, without a line.
 *
 * @param[out] out On SP_OK the caller owns it: sp_config_destroy(). Else NULL.
 * @retval SP_ERR_MALFORMED At least one fault was named.
 */
SP_MUST_CHECK enum sp_err sp_config_load(const char *file, FILE *faults, struct sp_config **out);

/**
 * The same from an open descriptor, read from its start; `include` is a fault here. For a child that is handed a
 * new configuration (SP_CONTROL_RELOAD) and can open no file.
 *
 * @param[in] name Stands for FILE in faults, and in sp_config.file. The descriptor stays the caller's.
 */
SP_MUST_CHECK enum sp_err sp_config_load_fd(int fd, const char *name, FILE *faults,
                                            struct sp_config **out);

/**
 * One more reference, for a thread that goes on using it; from any thread that has one. The object stays read-only.
 * @return The same object.
 */
struct sp_config *sp_config_hold(const struct sp_config *config);

/** Give a reference back; the last one frees. NULL is fine. */
void sp_config_destroy(struct sp_config *config);

/** Print in canonical form, every default filled in; the output loads to an equal object. */
void sp_config_print(const struct sp_config *config, FILE *out);

/** The role with that name, borrowed; NULL when there is none. */
const struct sp_role_config *sp_config_role(const struct sp_config *config, const char *name);

#endif
