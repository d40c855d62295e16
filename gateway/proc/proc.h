/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The parent and what it gives its three children: a process per right (docs/architecture.md 2).
 *
 * A child's main begins with its list of rights, opens what it needs, enters its sandbox
 * (gateway/proc/sandbox.h), tells the parent that it is ready, and runs until it is told to stop or the parent's end
 * of `control` closes.
 */
#ifndef SP_GATEWAY_PROC_PROC_H
#define SP_GATEWAY_PROC_PROC_H

#include "gateway/config/config.h"

enum sp_process { SP_PROCESS_GATE, SP_PROCESS_KEYS, SP_PROCESS_STORE };

/** What a child is given. Everything stays valid for the child's life; the fds are the child's. */
struct sp_child {
    const struct sp_config *config;
    int control; /**< SOCK_SEQPACKET to the parent, non-blocking; for sp_control_* */
    int *
        listeners; /**< gate only: threads × listener_count listening fds, all of loop 0 first; else NULL */
    int *keys;   /**< gate: one fd per loop to keys; keys: the other ends; store: NULL */
    int *store;  /**< gate: one fd per loop to store; store: the other ends; keys: NULL */
    bool beside; /**< an upgrade: another program's processes serve, or did a moment ago */
    int handover; /**< gate only, if `beside`: where another gate process hands its devices over; else -1 */
};

/** The children's mains; the result is the exit status. Implemented in gate/, keys/, store/. */
int sp_gate_main(const struct sp_child *child);
int sp_keys_main(const struct sp_child *child);
int sp_store_main(const struct sp_child *child);

enum sp_control_type {
    SP_CONTROL_READY = 1, /**< child → parent, once, in its sandbox and serving */
    SP_CONTROL_STOP,      /**< parent → child: say good-bye, finish, exit 0 within 5 s */
    SP_CONTROL_CHANNEL, /**< parent → child, with an fd: `peer` was restarted, use this channel for `loop` */
    SP_CONTROL_RELOAD, /**< parent → child, with an fd: a new configuration to read from it (canonical YAML) */
    SP_CONTROL_HANDOVER, /**< parent → gate, with an fd: hand everything over to the gate at its other end, and end */
    SP_CONTROL_KEPT,    /**< gate → parent: it did not work, nothing has changed, I serve on */
    SP_CONTROL_ARRIVED, /**< gate → parent: everything was handed over to me, I serve */
};

/** Between an old and a new program too: what changes here changes SP_HANDOVER_VERSION. */
struct sp_control {
    uint32_t type;
    uint32_t peer; /**< enum sp_process, for SP_CONTROL_CHANNEL */
    uint32_t
        loop; /**< for SP_CONTROL_STOP to store: 1: do not wait for the cloud, another store waits */
};

/** @param fd Passed along when ≥ 0; stays the caller's. @retval SP_ERR_CLOSED, SP_ERR_AGAIN */
SP_MUST_CHECK enum sp_err sp_control_send(int control, const struct sp_control *message, int fd);

/**
 * @param[out] message, fd Written on SP_OK only; fd = what came along, owned by the caller, or -1.
 * @retval SP_ERR_AGAIN     Nothing there.
 * @retval SP_ERR_CLOSED    The other end is gone.
 * @retval SP_ERR_MALFORMED Another size, or more than one fd; the message is used up.
 */
SP_MUST_CHECK enum sp_err sp_control_receive(int control, struct sp_control *message, int *fd);

/**
 * Everything that two programs say to each other in an upgrade (docs/decisions/0005-upgrade.md): struct sp_control, the baton, and what one gate
 * writes down for the other. A change in any of them counts it up.
 */
#define SP_HANDOVER_VERSION 1U

/**
 * The configuration to run with: the file's; in a program that was called back after an upgrade that failed, the one that was in force.
 * @retval SP_ERR_MALFORMED Faults were named.
 */
SP_MUST_CHECK enum sp_err sp_parent_load(const char *file, FILE *faults, struct sp_config **out);

/** `sallyport run`: the parent. Returns the exit status: 0 stopped in order, 1 could not start, 77 no permission. */
int sp_parent_main(const struct sp_config *config);

#endif
