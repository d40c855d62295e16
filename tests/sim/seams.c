/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The seams that are not simulated but replaced: TLS without cryptography (a device's first bytes are the length of its
 * identity and the identity; the gateway answers with one byte), names without a resolver, no sandbox, plain slabs.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/proc/sandbox.h"
#include "gateway/slab/ref.h"
#include "gateway/slab/slab.h"
#include "gateway/store/resolve.h"
#include "gateway/tls/tls.h"
#include "tests/sim/kernel.h"

struct sp_tls {
    enum sp_tls_state state;
    uint8_t identity[SP_LINK_IDENTITY_MAX];
    size_t identity_len;
    uint8_t *in;
    size_t used;
};

struct sp_tls_server {
    int unused;
};

struct sp_tls_client {
    int unused;
};

struct sp_resolver {
    int fd;
};

void sp_tls_out_deinit(struct sp_tls_out *out)
{
    free(out->buf);
    *out = (struct sp_tls_out){0};
}

enum sp_err sp_tls_server_create(const struct sp_listener_config *listener, char *why,
                                 size_t why_cap, struct sp_tls_server **out)
{
    (void)listener;
    (void)why;
    (void)why_cap;
    *out = calloc(1, sizeof(**out));
    return SP_OK;
}

void sp_tls_server_destroy(struct sp_tls_server *server)
{
    free(server);
}

enum sp_err sp_tls_client_create(const struct sp_cloud_config *cloud, char *why, size_t why_cap,
                                 struct sp_tls_client **out)
{
    (void)cloud;
    (void)why;
    (void)why_cap;
    *out = calloc(1, sizeof(**out));
    return SP_OK;
}

void sp_tls_client_destroy(struct sp_tls_client *client)
{
    free(client);
}

enum sp_err sp_tls_accept(struct sp_tls_server *server, struct sp_tls **out)
{
    (void)server;
    *out = calloc(1, sizeof(**out));
    return SP_OK;
}

enum sp_err sp_tls_connect(struct sp_tls_client *client, struct sp_tls **out)
{
    (void)client;
    *out = calloc(1, sizeof(**out));
    (*out)->state = SP_TLS_OPEN;
    return SP_OK;
}

void sp_tls_destroy(struct sp_tls *tls)
{
    if (tls != NULL) {
        free(tls->in);
        free(tls);
    }
}

enum sp_tls_state sp_tls_state(const struct sp_tls *tls)
{
    return tls->state;
}

void sp_tls_input(struct sp_tls *tls, struct sp_view ciphertext)
{
    tls->in = realloc(tls->in, tls->used + ciphertext.len);
    sp_copy(tls->in + tls->used, ciphertext.ptr, ciphertext.len);
    tls->used += ciphertext.len;
}

static void drop_input(struct sp_tls *tls, size_t len)
{
    tls->used -= len;
    memmove(tls->in, tls->in + len, tls->used);
}

bool sp_tls_greet(struct sp_tls *tls)
{
    return tls->used > 0 && tls->used > tls->in[0];
}

enum sp_tls_state sp_tls_step(struct sp_tls *tls, struct sp_tls_out *out)
{
    (void)out;
    if (tls->state == SP_TLS_HANDSHAKE && tls->used > 0 && tls->used > tls->in[0]) {
        tls->identity_len = tls->in[0];
        sp_copy(tls->identity, tls->in + 1, tls->identity_len);
        drop_input(tls, 1 + tls->identity_len);
        tls->state = SP_TLS_NEED_PSK;
    } else if (tls->state == SP_TLS_NEED_PSK) {
        tls->state = SP_TLS_OPEN;
        (void)!sp_tls_write(tls, SP_VIEW_LIT("+"), out);
    }
    return tls->state;
}

struct sp_view sp_tls_identity(const struct sp_tls *tls)
{
    return sp_view(tls->identity, tls->state == SP_TLS_OPEN ? 0 : tls->identity_len);
}

void sp_tls_set_psk(struct sp_tls *tls, struct sp_view psk, uint32_t suites)
{
    (void)tls;
    (void)psk;
    (void)suites;
}

enum sp_err sp_tls_read(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len,
                        struct sp_tls_out *out)
{
    (void)out;
    if (tls->used == 0) {
        return SP_ERR_AGAIN;
    }
    *len = tls->used < cap ? tls->used : cap;
    *len = *len < SP_TLS_RECORD_MAX ? *len : SP_TLS_RECORD_MAX;
    sp_copy(buf, tls->in, *len);
    drop_input(tls, *len);
    return SP_OK;
}

bool sp_tls_has_part(const struct sp_tls *tls)
{
    (void)tls;
    return false;
}

enum sp_err sp_tls_write(struct sp_tls *tls, struct sp_view plain, struct sp_tls_out *out)
{
    (void)tls;
    if (out->used + plain.len > out->cap) {
        out->cap = (out->used + plain.len) * 2;
        out->buf = realloc(out->buf, out->cap);
    }
    sp_copy(out->buf + out->used, plain.ptr, plain.len);
    out->used += plain.len;
    return SP_OK;
}

void sp_tls_close(struct sp_tls *tls, struct sp_tls_out *out)
{
    (void)tls;
    (void)out;
}

enum sp_err sp_tls_exporter(struct sp_tls *tls, uint8_t out[32])
{
    (void)tls;
    memset(out, 0, 32);
    return SP_OK;
}

const char *sp_tls_describe(const struct sp_tls *tls)
{
    (void)tls;
    return "none";
}

/* Nobody hands over here. */
bool sp_tls_can_pack(const struct sp_tls *tls)
{
    (void)tls;
    return false;
}

enum sp_err sp_tls_pack(const struct sp_tls *tls, struct sp_writer *w)
{
    (void)tls, (void)w;
    return SP_ERR_UNSUPPORTED;
}

enum sp_err sp_tls_unpack(struct sp_reader *r, struct sp_tls **out)
{
    (void)r;
    *out = NULL;
    return SP_ERR_UNSUPPORTED;
}

const char *sp_tls_error(const struct sp_tls *tls)
{
    (void)tls;
    return "none";
}

bool sp_tls_wrong_key(const struct sp_tls *tls)
{
    (void)tls;
    return false;
}

/* ---- names ---- */

enum sp_err sp_resolver_create(const char *host, uint16_t port, struct sp_resolver **out)
{
    (void)host;
    (void)port;
    *out = calloc(1, sizeof(**out));
    (*out)->fd = sim_sys_eventfd(0);
    return SP_OK;
}

void sp_resolver_destroy(struct sp_resolver *r)
{
    if (r != NULL) {
        (void)sim_sys_close(r->fd);
        free(r);
    }
}

int sp_resolver_fd(const struct sp_resolver *r)
{
    return r->fd;
}

void sp_resolver_clear(struct sp_resolver *r)
{
    (void)r;
}

void sp_resolver_warm_up(struct sp_resolver *r)
{
    (void)r;
}

enum sp_err sp_resolver_ask(struct sp_resolver *r, uint64_t now_ms, struct sp_address *out,
                            size_t *count, const char **why)
{
    (void)r;
    (void)now_ms;
    (void)why;
    out[0] = (struct sp_address){.len = sizeof(struct sockaddr)};
    *count = 1;
    return SP_OK;
}

/* ---- what a parent and a kernel give ---- */

enum sp_err sp_control_send(int control, const struct sp_control *message, int fd)
{
    (void)control;
    (void)message;
    (void)fd;
    return SP_OK;
}

enum sp_err sp_control_receive(int control, struct sp_control *message, int *fd)
{
    return sim_sys_control_receive(control, message, fd);
}

enum sp_err sp_sandbox_enter(enum sp_process process, const struct sp_config *config)
{
    (void)process;
    (void)config;
    return SP_OK;
}

#if SP_REF_IS_POINTER
static void place_refs(const void *first)
{
    (void)first;
}
#else
char *sp_arena_base;

/* What is as small as the things in slabs is never far from the others. */
static void place_refs(char *first)
{
    if (sp_arena_base == NULL) {
        sp_arena_base = first - (SP_REF_UNIT << 31);
    }
}
#endif

void *sp_slab_take(struct sp_slab *slab)
{
    void *item = calloc(1, slab->size);
    place_refs(item);
    return item;
}

void sp_slab_give(struct sp_slab *slab, void *item)
{
    (void)slab;
    free(item);
}

void sp_slab_trim(void)
{
}
