/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The parent's parts, private to this folder: sockets, children, reload, status. One thread. */
#ifndef SP_GATEWAY_PROC_PARENT_INTERNAL_H
#define SP_GATEWAY_PROC_PARENT_INTERNAL_H

#include "gateway/proc/proc.h"

#include <sys/types.h>

#define SP_PROCESS_COUNT 3U

enum sp_parent_state {
    SP_PARENT_STARTING,
    SP_PARENT_UPGRADING, /**< another program's children serve; ours start beside them */
    SP_PARENT_SERVING,
    SP_PARENT_STOPPING,
};

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

/** Ends of the wires between gate and another process, one per loop; NULL when they were not made. */
struct sp_wires {
    int *gate[SP_PROCESS_COUNT];
    int *peer[SP_PROCESS_COUNT];
};

/** A listening socket that another program has opened. */
struct sp_given_listener {
    char *address; /**< as in its configuration */
    unsigned loop;
    unsigned port;
    int fd;
};

/**
 * What one program tells the other over exec(): the same process, so the same children. All descriptors are inherited. Written as
 * lines of text to a memory file whose number is in the environment, SALLYPORT_BATON.
 */
struct sp_baton {
    bool back;         /**< called back: the children are the reader's own */
    unsigned attempts; /**< upgrades that were asked for */
    uint64_t started_ms;
    char *program; /**< path of the program to run next time */
    char *state_dir;
    char *why; /**< `back`: what did not work */
    int lock;
    int status;
    int metrics;
    int config; /**< the configuration in force, as text */
    int exe;    /**< the program that wrote it, to be called back; -1 with `back` */
    struct sp_offspring children[SP_PROCESS_COUNT];
    struct sp_given_listener *listeners;
    size_t listener_count;
};

enum sp_upgrade_step {
    SP_UPGRADE_NONE,
    SP_UPGRADE_PROBING,   /**< the old program: the new one is asked whether it would run */
    SP_UPGRADE_STARTING,  /**< the new program: our keys and gate start */
    SP_UPGRADE_MOVING,    /**< gate hands over to gate */
    SP_UPGRADE_FOLLOWING, /**< gate has moved: store and keys follow */
};

struct sp_upgrade {
    enum sp_upgrade_step step;
    unsigned attempts;
    char result[160]; /**< of the last one: "done", or why not */
    char *program;    /**< path that this program was started by */
    uint64_t due_ms;  /**< when this step has taken too long */
    uint64_t began_ms;
    pid_t probe;
    int said;                                  /**< what the probe prints; -1 */
    struct sp_baton *baton;                    /**< the new program: what it was given; else NULL */
    struct sp_offspring old[SP_PROCESS_COUNT]; /**< the other program's children */
    struct sp_wires wires; /**< to store, which starts when the old one has ended */
    int passage;           /**< the old gate's end; -1 */
    pid_t gate;            /**< the one that has these wires */
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
    uint64_t stop_ms;   /**< when stopping began */
    bool reload;        /**< SIGHUP came and is not answered yet */
    bool told_all;      /**< every child was told to stop, not only gate */
    bool failed;        /**< a child died before the gateway was ready */
    bool upgrade_asked; /**< SIGUSR2 came and is not answered yet */
    struct sp_upgrade upgrade;
};

/** Milliseconds of the monotonic clock. */
uint64_t sp_parent_now(void);
const char *sp_process_name(enum sp_process process);

/* listen.c */
/** Open every listening socket. Logs what fails. @retval SP_ERR_DENIED Not permitted. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_parent_listen(struct sp_parent *parent);
/** Close the sockets that another program has given; those of use here were duplicated. */
void sp_parent_listen_prune(struct sp_parent *parent);
void sp_parent_listen_close(struct sp_parent *parent);

/* children.c */
/** Start all three. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_children_start(struct sp_parent *parent);
/** Start keys and gate beside another program's, and make the wires to a store that comes later. `passage`: gate's end. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_children_start_beside(struct sp_parent *parent, int passage);
/** Start store on the wires that were made for it. */
void sp_children_start_store(struct sp_parent *parent);
/** Collect the dead, and plan their return. */
void sp_children_reap(struct sp_parent *parent);
/** Say and count that a process died of a system call that its sandbox forbids. @return false: it died of something else. */
bool sp_children_log_forbidden(enum sp_process process, int status);
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
/** Kill ours, those that start beside another program's, and wait for their end. */
void sp_children_discard(struct sp_parent *parent);
/** Another program's children become ours. */
void sp_children_adopt(struct sp_parent *parent, const struct sp_offspring *children);
/** Read what a child has said, without a meaning for children.c. @return false: nothing. */
bool sp_children_listen(struct sp_offspring *o, struct sp_control *message);
void sp_wires_close(struct sp_wires *wires, uint32_t loops);

/* baton.c */
/** The baton that this program was given by exec(), or NULL; the same with each call. */
struct sp_baton *sp_baton_given(void);
/** Run `program` (NULL: the one of `exe`) in place of this one, with what the baton says. Returns only when that does not work: errno. */
void sp_baton_pass(const struct sp_baton *baton, const char *program, int exe, const char *file);
/** Takes nothing but memory with it. NULL is fine. */
void sp_baton_destroy(struct sp_baton *baton);

/* upgrade.c */
/** Before anything is opened: look at what was given, if anything. */
void sp_upgrade_begin(struct sp_parent *parent);
/** In place of opening and starting: use what was given. @retval SP_ERR_NOMEM, SP_ERR_IO It cannot be used. */
SP_MUST_CHECK enum sp_err sp_upgrade_start(struct sp_parent *parent);
/** SIGUSR2. */
void sp_upgrade_ask(struct sp_parent *parent);
/** After each turn: go on with what is under way. */
void sp_upgrade_turn(struct sp_parent *parent);
/** One that is not among our children has ended. */
void sp_upgrade_reaped(struct sp_parent *parent, pid_t pid, int status);
/** One of our children has said something that only an upgrade knows. */
void sp_upgrade_heard(struct sp_parent *parent, enum sp_process process, uint32_t type);
/** The gateway stops: whoever serves is ours again. */
void sp_upgrade_abandon(struct sp_parent *parent);
/** What was begun in this program did not work: call the other one back. Returns only when that does not work either. */
void sp_upgrade_give_back(struct sp_parent *parent, const char *why);
void sp_upgrade_end(struct sp_parent *parent);

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
