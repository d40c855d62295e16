/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The parent's parts, private to this folder: sockets, children, reload, status. One thread. */
#ifndef SP_GATEWAY_PROC_PARENT_INTERNAL_H
#define SP_GATEWAY_PROC_PARENT_INTERNAL_H

#include "gateway/proc/proc.h"

#include <sys/types.h>

#define SP_PROCESS_COUNT 3U

enum sp_parent_state { SP_PARENT_STARTING, SP_PARENT_SERVING, SP_PARENT_STOPPING };

/** One child, as the parent sees it. */
struct sp_offspring {
    pid_t pid;   /**< 0 = not running */
    int control; /**< -1 = none */
    bool ready;  /**< it has said so */
    unsigned restarts;
    unsigned backoff_ms; /**< before the next start */
    uint64_t started_ms;
    uint64_t due_ms; /**< when to start it again; 0 = not planned */
};

struct sp_parent {
    const struct sp_config *config; /**< in force */
    struct sp_config *reloaded;     /**< owned; what `config` points to after a SIGHUP; else NULL */
    struct sp_offspring children[SP_PROCESS_COUNT]; /**< by enum sp_process */
    enum sp_parent_state state;
    int *listeners; /**< threads × listener_count, all of loop 0 first */
    size_t listener_count;
    uint16_t *ports; /**< of each listener, the real ones */
    int lock;        /**< state_dir/lock */
    int signals;     /**< signalfd */
    int status;      /**< listening socket for `sallyport status` */
    uint64_t started_ms;
    uint64_t stop_ms; /**< when stopping began */
    bool reload;      /**< SIGHUP came and is not answered yet */
    bool told_all;    /**< every child was told to stop, not only gate */
    bool failed;      /**< a child died before the gateway was ready */
};

/** Milliseconds of the monotonic clock. */
uint64_t sp_parent_now(void);
const char *sp_process_name(enum sp_process process);

/* listen.c */
/** Open every listening socket. Logs what fails. @retval SP_ERR_DENIED Not permitted. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_parent_listen(struct sp_parent *parent);
void sp_parent_listen_close(struct sp_parent *parent);

/* children.c */
/** Start all three. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_children_start(struct sp_parent *parent);
/** Collect the dead, and plan their return. */
void sp_children_reap(struct sp_parent *parent);
/** Start again those whose time has come. */
void sp_children_restart(struct sp_parent *parent);
/** Read what a child has said. */
void sp_children_hear(struct sp_parent *parent, enum sp_process process);
/** Send a control message; a child that cannot take it is killed, and so restarted. */
void sp_children_tell(struct sp_parent *parent, enum sp_process process,
                      const struct sp_control *message, int fd);
bool sp_children_all_ready(const struct sp_parent *parent);
bool sp_children_any_alive(const struct sp_parent *parent);
void sp_children_kill(struct sp_parent *parent, int signal);

/* reload.c */
/** Read the configuration anew; a faulty one changes nothing. */
void sp_parent_reload(struct sp_parent *parent);

/* status_cjson.c */
/** What `sallyport status --json` prints, for the caller to free; NULL: no memory. */
char *sp_parent_status(const struct sp_parent *parent);

/* notify_systemd.c or notify_none.c */
void sp_notify(const char *state); /**< `READY=1` … */
/** Microseconds within which systemd wants to hear WATCHDOG=1; 0 = it does not. */
uint64_t sp_notify_watchdog(void);

#endif
