/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The TLS seam over GnuTLS 3.7, in seven files: a session's beginning, transport and end (tls_gnutls.c), what only the
 * devices' door has (server_gnutls.c) and only the cloud's (client_gnutls.c), the handshake (handshake_gnutls.c), how a session
 * leaves GnuTLS (detach_gnutls.c), application data (data_gnutls.c), and the way to another process (pack.c, which needs no GnuTLS).
 * They alone know it, beside gateway/crypto.
 *
 * GnuTLS does every handshake. Where that ends in TLS 1.2 with an AES-128 AEAD suite, the record state is taken out, the
 * GnuTLS session freed, and record.h carries on (docs/decisions/0004-detached-tls.md); the rest stays attached.
 *
 * Transport is memory: the pull function takes from the view that the caller gave, the push function appends to
 * the caller's sp_tls_out. GnuTLS keeps partial records itself, so all input is always used up, but for the two
 * messages that we look at first (hello.h): while one of them is not whole, bytes wait in `held`.
 */
#ifndef SP_GATEWAY_TLS_TLS_INTERNAL_H
#define SP_GATEWAY_TLS_TLS_INTERNAL_H

#include "gateway/slab/slab.h"
#include "gateway/tls/flow.h"
#include "libs/link/link.h"

struct gnutls_session_int; /* what a gnutls_session_t points to */

#define SP_TLS_IDENTITY_MAX 256U /**< kept for the log; longer ones are unknown anyway */
#define SP_TLS_IDLE_RECORDS_MAX \
    64U /**< warning alerts and empty records in a row, before the session is closed */

enum sp_tls_stage {
    SP_TLS_STAGE_HELLO, /**< waits for a whole ClientHello */
    SP_TLS_STAGE_KEY,   /**< waits for a whole ClientKeyExchange */
    SP_TLS_STAGE_PSK,   /**< waits for sp_tls_set_psk() */
    SP_TLS_STAGE_REST,  /**< everything goes to GnuTLS as it comes */
};

/** GnuTLS's session and what only a handshake needs. */
struct sp_tls_attached {
    struct sp_flow flow;                /* first: found by casting back from sp_tls.flow */
    struct gnutls_session_int *session; /* NULL: a server's, before sp_tls_step() */
    struct sp_tls_server *server;       /* NULL on the cloud's door */
    struct sp_tls_client *client;
    struct sp_tls_out *out; /* the caller's, during a call */
    size_t record_left;     /* bytes of the body of the record that GnuTLS has begun to read */
    uint8_t head[SP_RECORD_HEADER];
    uint8_t head_len;                 /* of that record; 0: GnuTLS stands between two records */
    const struct sp_tls_suite *suite; /* TLS 1.2: the one that was picked */
    uint8_t *psk;                     /* SP_PSK_MAX bytes while a handshake needs it */
    size_t psk_len;
    enum sp_tls_stage stage;
    bool flooded;      /* more came than a first message may have */
    bool decoy;        /* the key is random because the device may not use this suite */
    bool answered;     /* a PSK was given */
    bool opened;       /* the handshake was finished once */
    uint16_t send_max; /* the peer's record_size_limit (RFC 8449); 0: none */
    unsigned idle_records;
    int error; /* GnuTLS code */
    uint16_t identity_len;
    uint8_t identity[SP_TLS_IDENTITY_MAX];
};

/** All that is left of an idle connection which is detached. */
struct sp_tls {
    struct sp_tls_record record; /* while detached */
    uint8_t state;               /* enum sp_tls_state */
    uint8_t suite;               /* detached: position in sp_tls_suites */
    bool attached : 1;           /* its flow is the one in struct sp_tls_attached */
    bool wrong_key : 1;
    bool broken : 1; /* fatal alert sent or received: no close_notify */
    uint8_t exporter[SP_LINK_EXPORTER_LEN];
    struct sp_flow *flow; /* NULL: detached, and nothing is in it */
};
_Static_assert(sizeof(struct sp_tls) == 104, "what an idle connection costs");

/** Of one that is attached. */
static inline struct sp_tls_attached *sp_tls_attached(const struct sp_tls *tls)
{
    return (struct sp_tls_attached *)tls->flow;
}

/* ---- tls_gnutls.c ---- */

extern struct sp_slab sp_tls_sessions; /**< of struct sp_tls */

/** An attached session in SP_TLS_HANDSHAKE, without GnuTLS's; NULL: no memory. sp_tls_destroy() ends it. */
struct sp_tls *sp_tls_create(void);

/** Make GnuTLS's session, non-blocking and over our transport. @param flags For gnutls_init(). @return false: no memory. */
bool sp_tls_session_open(struct sp_tls *tls, unsigned flags);

/** The caller's output is lent to GnuTLS for a call, then NULL is; detaching may end the borrower. */
void sp_tls_lend(struct sp_tls *tls, struct sp_tls_out *out);

/** Wipe and free the handshake's key, if there is one. */
void sp_tls_forget_psk(struct sp_tls *tls);

/** Free GnuTLS's session and what goes with it: from now on it is detached, and its flow is `flow`, taken over. */
void sp_tls_free_attached(struct sp_tls *tls, struct sp_flow *flow);

/** It is over: keys and input are forgotten. @param error GnuTLS's code, for sp_tls_error(). @param why Static; goes before `error`; NULL: none. */
void sp_tls_fail(struct sp_tls *tls, int error, const char *why);

/** The same, after a fatal alert; attached only. @param alert A gnutls_alert_description_t. */
void sp_tls_refuse(struct sp_tls *tls, int alert, const char *why);

/** Room for input; false: it has failed. */
bool sp_tls_may_flow(struct sp_tls *tls);

/* ---- server_gnutls.c ---- */

/** Before the first step: what a handshake costs is spent now, and not while a peer is silent. @return false: no memory. */
bool sp_tls_server_begin(struct sp_tls *tls);

/**
 * Look at the message that this stage waits for, ClientHello or ClientKeyExchange: the suite is picked, the identity kept, the stage is the
 * next one. What cannot be accepted is refused.
 * @retval SP_ERR_AGAIN It is not whole.
 * @retval SP_ERR_LIMIT It is too large.
 */
SP_MUST_CHECK enum sp_err sp_tls_look(struct sp_tls *tls);

/* ---- detach_gnutls.c ---- */

/**
 * Right after the handshake, before GnuTLS has read any other record: what it left in the transport starts with one. Where
 * something is not as expected, the session stays attached.
 */
void sp_tls_detach(struct sp_tls *tls);

/** The 32 bytes of RFC 9266, from GnuTLS. @retval SP_ERR_CRYPTO */
SP_MUST_CHECK enum sp_err sp_tls_make_exporter(struct sp_tls *tls, uint8_t *out);

#endif
