/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Counters and gauges in memory shared by all processes of one gateway.
 *
 * The parent maps the page before it forks. Each writer (a gate loop, keys, store) has a slot of its own,
 * so that a count is one unshared add; a reader sums the slots. Counters survive the death of a child.
 */
#ifndef SP_GATEWAY_METRICS_METRICS_H
#define SP_GATEWAY_METRICS_METRICS_H

#include "libs/attest/attest.h"
#include "libs/base/err.h"

#include <stdint.h>

#define SP_METRICS_SLOTS      64U /**< gate loops 0..61, keys 62, store 63 */
#define SP_METRICS_SLOT_KEYS  62U
#define SP_METRICS_SLOT_STORE 63U

/** name, JSON/Prometheus name, kind (COUNTER | GAUGE), help */
#define SP_METRIC_MAP(X)                                                                          \
    X(CONNECTIONS_ACCEPTED, "connections_accepted_total", COUNTER, "TCP connections accepted")    \
    X(CONNECTIONS_OPEN, "connections_open", GAUGE, "TCP connections open now")                    \
    X(CONNECTIONS_WAITING, "connections_waiting", GAUGE,                                          \
      "connections whose handshake has not begun")                                                \
    X(HANDSHAKES, "handshakes", GAUGE, "connections between ClientHello and admission")           \
    X(CONNECTIONS_SHED, "connections_shed_total", COUNTER, "connections closed by a limit")       \
    X(SHED_CONNECTIONS, "connections_shed_total{limit=\"connections\"}", COUNTER,                 \
      "connections over the limit in all")                                                        \
    X(SHED_ADDRESS, "connections_shed_total{limit=\"connections_per_address\"}", COUNTER,         \
      "connections over the limit of an address")                                                 \
    X(SHED_WAITING, "connections_shed_total{limit=\"waiting\"}", COUNTER,                         \
      "connections that waited, for longest without a word, when too many did")                   \
    X(SHED_WAITING_ADDRESS, "connections_shed_total{limit=\"waiting_per_address\"}", COUNTER,     \
      "connections of an address of which too many wait")                                         \
    X(SHED_QUEUE, "connections_shed_total{limit=\"queue\"}", COUNTER,                             \
      "connections that found no place for a handshake in time")                                  \
    X(SHED_CROWDED, "connections_shed_total{limit=\"handshakes\"}", COUNTER,                      \
      "slow handshakes ended because others waited for their place")                              \
    X(SHED_IDENTITY, "connections_shed_total{limit=\"handshakes_per_identity\"}", COUNTER,        \
      "handshakes ended because too many went on under their identity")                           \
    X(SHED_DESCRIPTORS, "connections_shed_total{limit=\"descriptor_reserve\"}", COUNTER,          \
      "silent connections closed because file descriptors were short")                            \
    X(SHED_MEMORY, "connections_shed_total{limit=\"memory\"}", COUNTER,                           \
      "connections closed for want of memory")                                                    \
    X(SHED_KEYS, "connections_shed_total{limit=\"keys\"}", COUNTER,                               \
      "connections closed because the keys process was away")                                     \
    X(ACCEPT_PAUSED, "accept_paused_total", COUNTER,                                              \
      "times that accepting paused because file descriptors were short")                          \
    X(LOG_LINES_LEFT_OUT, "log_lines_left_out_total", COUNTER,                                    \
      "lines about connections that the log's limit left out")                                    \
    X(TLS_OK, "tls_handshakes_ok_total", COUNTER, "TLS handshakes finished")                      \
    X(TLS_FAILED, "tls_handshakes_failed_total", COUNTER, "TLS handshakes failed")                \
    X(TLS_UNKNOWN_IDENTITY, "tls_unknown_identity_total", COUNTER,                                \
      "handshakes under an identity that is not in the registry")                                 \
    X(TLS_WRONG_KEY, "tls_wrong_key_total", COUNTER,                                              \
      "handshakes under a known identity that failed at the key")                                 \
    X(TLS_BAD_RECORD, "tls_bad_record_total", COUNTER, "connections closed for a broken record")  \
    X(SLAB_BYTES, "connection_state_bytes", GAUGE,                                                \
      "bytes held for connections, sessions, subscriptions and addresses")                        \
    X(GUESTS, "guests", GAUGE, "connections that have no verdict yet")                            \
    X(DEVICES_ONLINE, "devices_online", GAUGE, "connections that are admitted")                   \
    X(DEVICES_ATTESTED, "devices_attested", GAUGE, "connections with an attestation verdict ok")  \
    X(ATTEST_CHALLENGES, "attestation_challenges_total", COUNTER, "challenges sent")              \
    X(ATTEST_OK, "attestations_ok_total", COUNTER, "verdicts ok")                                 \
    X(CONNECT_REFUSED, "connects_refused_total", COUNTER,                                         \
      "CONNECTs refused for another reason than a token")                                         \
    X(GUEST_EARLY, "guest_out_of_turn_total", COUNTER,                                            \
      "connections closed for a packet before the verdict")                                       \
    X(PROTOCOL_ERRORS, "protocol_errors_total", COUNTER,                                          \
      "connections closed for malformed or out-of-turn MQTT")                                     \
    X(TAKEN_OVER, "sessions_taken_over_total", COUNTER, "connections replaced by a newer one")    \
    X(KEEPALIVE_TIMEOUTS, "keepalive_timeouts_total", COUNTER, "connections closed for silence")  \
    X(DEADLINE_TIMEOUTS, "deadline_timeouts_total", COUNTER,                                      \
      "connections closed before admission for being slow")                                       \
    X(REVOKED_CLOSED, "revoked_closed_total", COUNTER, "connections closed by a registry change") \
    X(PUBLISH_IN, "messages_received_total", COUNTER, "PUBLISH packets from devices")             \
    X(PUBLISH_IN_BYTES, "messages_received_bytes_total", COUNTER, "payload bytes from devices")   \
    X(PUBLISH_OUT, "messages_delivered_total", COUNTER, "PUBLISH packets to devices")             \
    X(SLOWED, "devices_slowed_total", COUNTER,                                                    \
      "times that a device came to be held back for its message rate")                            \
    X(PUBLISH_DENIED, "messages_denied_total", COUNTER, "PUBLISH where the role may not")         \
    X(RECORD_REFUSED, "records_refused_total", COUNTER, "sensor records that do not hold")        \
    X(RECORD_WEAKER, "records_refused_total{kind=\"weaker\"}", COUNTER,                           \
      "records with less protection than the device's row asks for")                              \
    X(RECORD_FORM, "records_refused_total{kind=\"form\"}", COUNTER, "records in no known form")   \
    X(RECORD_KEY, "records_refused_total{kind=\"key\"}", COUNTER,                                 \
      "records under a group or epoch that is not the device's")                                  \
    X(RECORD_OLD, "records_refused_total{kind=\"epoch\"}", COUNTER,                               \
      "records under an epoch whose grace period is over")                                        \
    X(RECORD_OPEN, "records_refused_total{kind=\"open\"}", COUNTER, "records that do not open")   \
    X(RECORD_CONTENT, "records_refused_total{kind=\"content\"}", COUNTER,                         \
      "records with malformed SenML inside")                                                      \
    X(RECORD_RANGE, "records_refused_total{kind=\"range\"}", COUNTER,                             \
      "records with a value outside of what can be measured")                                     \
    X(RECORD_TIME, "records_refused_total{kind=\"time\"}", COUNTER,                               \
      "records with a time before 1970 or after 2200")                                            \
    X(RECORD_REPEATED, "records_repeated_total", COUNTER,                                         \
      "records with a counter that was accepted before: acknowledged, not routed")                \
    X(RECORD_OPENED, "records_opened_total", COUNTER, "protected records opened and accepted")    \
    X(RECORD_FORWARDED, "records_forwarded_total", COUNTER,                                       \
      "protected end-to-end records forwarded unread")                                            \
    X(RECORD_CLOSED, "records_closed_total", COUNTER,                                             \
      "connections closed for ten records that do not open")                                      \
    X(GRANTS_SENT, "grants_sent_total", COUNTER, "app key grants sent")                           \
    X(GRANTS_ACKED, "grants_acknowledged_total", COUNTER, "app key grants acknowledged")          \
    X(GRANT_ACKS_REFUSED, "grant_acks_refused_total", COUNTER,                                    \
      "acknowledgements that do not open or answer nothing")                                      \
    X(APP_KEY_ALARMS, "app_key_alarms_total", COUNTER,                                            \
      "app keys that a device did not take, or lost")                                             \
    X(ROTATIONS, "epochs_in_use_total", COUNTER, "group epochs that came into use")               \
    X(FUSION_RECORDS, "fusion_records_total", COUNTER, "records taken into a fusion")             \
    X(FUSION_LATE, "fusion_late_total", COUNTER, "records too late for their window")             \
    X(FUSION_REFUSED, "fusion_refused_total", COUNTER,                                            \
      "records left out of a fusion for want of configured room")                                 \
    X(FUSION_DOCUMENTS, "fusion_documents_total", COUNTER, "fusion documents published")          \
    X(PUBLISH_DROPPED, "messages_dropped_total", COUNTER, "QoS 0 or over-quota messages dropped") \
    X(PUBLISH_REFUSED, "messages_refused_total", COUNTER,                                         \
      "QoS 1 messages not acknowledged because they cannot be stored now")                        \
    X(SLOW_CLOSED, "slow_readers_closed_total", COUNTER,                                          \
      "connections closed because the peer did not read")                                         \
    X(WRITE_BUFFERS, "write_buffers_bytes", GAUGE, "bytes that slow readers have not taken yet")  \
    X(SESSION_QUEUES, "session_queues_bytes", GAUGE, "messages in memory that wait for clients")  \
    X(SUBSCRIBE_DENIED, "subscriptions_denied_total", COUNTER, "filters refused in SUBSCRIBE")    \
    X(SUBSCRIPTIONS, "subscriptions", GAUGE, "subscriptions held")                                \
    X(RETAINED, "retained_messages", GAUGE, "retained messages kept")                             \
    X(RETAINED_REFUSED, "retained_refused_total", COUNTER, "messages not retained, by a limit")   \
    X(SESSIONS_OFFLINE, "sessions_offline", GAUGE, "kept sessions without a connection")          \
    X(SESSIONS_KEPT, "sessions_kept", GAUGE, "sessions in the journal")                           \
    X(SESSION_MESSAGES, "session_messages", GAUGE, "messages in the journal for devices")         \
    X(SESSION_BYTES, "session_bytes", GAUGE, "their bytes")                                       \
    X(CLOUD_CONNECTED, "cloud_links_connected", GAUGE, "cloud links that are up")                 \
    X(CLOUD_CONNECTS, "cloud_connects_total", COUNTER, "cloud connections made")                  \
    X(CLOUD_FAILURES, "cloud_failures_total", COUNTER, "cloud connections failed or lost")        \
    X(CLOUD_PUBLISHED, "cloud_published_total", COUNTER, "messages the cloud has acknowledged")   \
    X(CLOUD_SENT, "cloud_sent_total", COUNTER, "PUBLISH packets sent to the cloud")               \
    X(CLOUD_DROPPED, "cloud_dropped_total", COUNTER, "QoS 0 messages for the cloud dropped")      \
    X(CLOUD_COMMANDS, "cloud_commands_total", COUNTER, "PUBLISH packets from the cloud")          \
    X(JOURNAL_APPENDED, "journal_appended_total", COUNTER, "messages made durable")               \
    X(JOURNAL_REFUSED, "journal_refused_total", COUNTER, "messages the journal could not take")   \
    X(JOURNAL_COMMITS, "journal_commits_total", COUNTER, "journal commits")                       \
    X(JOURNAL_DEAD, "journal_dead_letters_total", COUNTER, "messages moved to the dead letters")  \
    X(JOURNAL_DEPTH, "journal_messages", GAUGE, "messages held for the cloud")                    \
    X(JOURNAL_BYTES, "journal_bytes", GAUGE, "payload bytes held for the cloud")                  \
    X(JOURNAL_OLDEST, "journal_oldest_seconds", GAUGE, "age of the oldest message held")          \
    X(DEVICES, "devices", GAUGE, "devices in the registry")                                       \
    X(REFERENCES, "references", GAUGE, "reference entries in the registry")                       \
    X(KEYS_RESTARTS, "keys_restarts_total", COUNTER, "times the keys process was restarted")      \
    X(STORE_RESTARTS, "store_restarts_total", COUNTER, "times the store process was restarted")   \
    X(GATE_RESTARTS, "gate_restarts_total", COUNTER, "times the gate process was restarted")      \
    X(FORBIDDEN_CALLS, "forbidden_calls_total", COUNTER,                                          \
      "processes that died of a system call that their sandbox forbids")

enum sp_metric {
#define X(name, text, kind, help) SP_M_##name,
    SP_METRIC_MAP(X)
#undef X
    /** Tokens refused, one counter per check: SP_M_ATTEST_REFUSED + check. */
    SP_M_ATTEST_REFUSED,
    SP_METRIC_COUNT = SP_M_ATTEST_REFUSED + SP_ATTEST_CHECK_COUNT
};

/** Map the shared page; once, in the parent. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_metrics_init(void);

/** The page as a file, for another program after exec(); -1 before sp_metrics_init(). Stays ours. */
int sp_metrics_fd(void);

/** In place of sp_metrics_init(): the page that the same program had before exec(). Takes `fd` over. @retval SP_ERR_UNSUPPORTED It is another program's. */
SP_MUST_CHECK enum sp_err sp_metrics_adopt(int fd);

/** Count on where another program's page stands, by the names of its counters; again later, for what has come since. */
void sp_metrics_inherit(int fd);

/** Choose this thread's slot. Without a call, slot 0; before sp_metrics_init() adds go nowhere. */
void sp_metrics_use_slot(unsigned slot);

/** Add to this thread's slot; gauges may be lowered. */
void sp_metric_add(enum sp_metric metric, int64_t delta);
void sp_metric_inc(enum sp_metric metric);

/** Set this slot's share of a gauge. */
void sp_metric_set(enum sp_metric metric, int64_t value);

/** Set a slot's gauges to 0, after its process has died. */
void sp_metrics_clear_gauges(unsigned first_slot, unsigned last_slot);

/** Sum over all slots. */
int64_t sp_metric_read(enum sp_metric metric);

/** Wire name, for instance `tokens_refused_total` with check `mac` has the name `attestations_refused_total{check="mac"}`. */
void sp_metric_name(enum sp_metric metric, char *out, size_t cap);
const char *sp_metric_help(enum sp_metric metric);
bool sp_metric_is_gauge(enum sp_metric metric);

#endif
