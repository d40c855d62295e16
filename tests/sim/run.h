/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One run: a gateway of the real gate and store, between devices and a cloud that are played, under a nemesis. The seed
 * decides everything: how many devices, what they send, how the cloud and the disk behave, who dies when, and who goes on next.
 */
#ifndef SP_TESTS_SIM_RUN_H
#define SP_TESTS_SIM_RUN_H

#include "libs/mqtt/mqtt.h"
#include "tests/sim/kernel.h"

#define SIM_DEVICES_MAX 6U
#define SIM_LOOPS_MAX   2U
#define SIM_GATEWAY     "gw-sim"

/** What the seed has drawn for this run. Chances are per mille. */
struct sim_plan {
    uint32_t devices;
    uint32_t messages; /**< of each device */
    uint32_t loops;
    uint32_t links;
    uint32_t payload_max;
    uint32_t trouble; /**< chance of a blow at each beat */
    uint32_t deaths;  /**< weights of the blows */
    uint32_t disk;
    uint32_t weather;
    uint32_t network;
    bool cloud_5;      /**< the cloud speaks MQTT 5 */
    uint32_t poison;   /**< messages that make the cloud hang up */
    uint32_t unwanted; /**< messages that the cloud refuses for good */
    uint32_t expiring;
    uint32_t attested; /**< devices that have to attest */
};
extern struct sim_plan sim_plan;

/** The end has come: all is well from now on, and nothing new is sent. */
extern bool sim_healing;

/** Something that must not be. The first one ends the run. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Why the run has failed; NULL: it has not. */
const char *sim_failure(void);

/** @return Whether the gateway kept its promises; `summary` gets one line. */
bool sim_run(uint64_t seed, char *summary, size_t cap);

/* ---- the ledger (ledger.c) ---- */

/** How the cloud takes a message; part of its text. */
enum sim_taste { SIM_WANTED = 'w', SIM_POISON = 'p', SIM_UNWANTED = 'u' };

struct sim_message {
    uint32_t device;
    uint32_t n; /**< from 1, in the order in which the device first sends */
    uint8_t qos;
    enum sim_taste taste;
    bool accepted;  /**< PUBACK or PUBREC with success was seen */
    bool refused;   /**< it was refused at least once: its place is not promised any more */
    bool forgotten; /**< the device has lost its memory of it */
    bool uncertain; /**< a connection ended before its answer came: it may have been refused */
    bool denied;    /**< published where the device may not */
    bool put_off;   /**< the cloud has refused it for now, and may get it out of turn */
    uint32_t expiry_s;
    uint32_t sends;
    uint64_t sent_ms;      /**< first, wall clock */
    uint32_t hangups;      /**< of the cloud, before it was first sent */
    uint32_t received;     /**< by the cloud */
    uint32_t acked;        /**< by the cloud, with success */
    uint32_t refused_good; /**< by the cloud, for good */
    uint32_t sequences;    /**< different ones that it came with */
    uint32_t place;        /**< among all that came for the first time; 0: it did not */
    bool dead;
    bool waiting; /**< in the journal */
};

void sim_ledger_reset(void);
/** A new message of a device; QoS and taste are drawn. Lives as long as the run. */
struct sim_message *sim_ledger_new(uint32_t device);
/** Its text: in a buffer until the next call. */
struct sp_view sim_ledger_text(const struct sim_message *m);
/** Whose text that is, byte for byte; NULL: nobody's. */
struct sim_message *sim_ledger_find(struct sp_view text);
/** The cloud got it; sequence 0: none came with it. @return It is a repeat. */
bool sim_ledger_received(struct sim_message *m, struct sp_view epoch, uint64_t sequence);
/** The cloud hung up on somebody. */
void sim_ledger_hangup(void);
/** At the end, with the journal at rest: does everything add up? */
void sim_ledger_check(void);
/** With the journal at rest: is what it holds beneath the caps? */
void sim_ledger_caps(void);
struct sim_ledger_sums {
    uint32_t sent;
    uint32_t accepted;
    uint32_t delivered;
    uint32_t dead;
    uint32_t repeats;
};
struct sim_ledger_sums sim_ledger_sums(void);

/* ---- the devices (device.c) ---- */

void sim_devices_reset(void);
/** Where gate listens, one per loop; -1: nowhere. */
void sim_devices_listeners(const int *fds);
/** Every device has sent everything, and all of it was answered. */
bool sim_devices_done(void);
/** Something happens to the connection of some device. */
void sim_devices_trouble(void);

/* ---- the cloud (cloud.c) ---- */

void sim_cloud_reset(void);
/** The cloud changes its mind about how to behave. */
void sim_cloud_trouble(void);
void sim_cloud_heal(void);

/* ---- keys (keys.c) ---- */

void sim_keys_reset(void);
/** A new process: its end of the channel to a loop. */
void sim_keys_attach(uint32_t loop, struct sim_end *end);
/** It is gone. */
void sim_keys_die(void);

/* ---- packets (wire.c) ---- */

/** The next whole packet of what has come. @return false: there is none. */
bool sim_wire_next(struct sp_view in, struct sp_mqtt_header *header, struct sp_view *body);
void sim_wire_ack(struct sim_end *end, enum sp_mqtt_version version, enum sp_mqtt_type type,
                  uint16_t packet_id, uint8_t reason);

#endif
