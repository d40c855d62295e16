/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The gateway's configuration of a run, and the parent process that starts its children again. */
#ifndef SP_TESTS_SIM_WORLD_H
#define SP_TESTS_SIM_WORLD_H

#include "gateway/config/config.h"
#include "tests/sim/kernel.h"

#define SIM_STATE_DIR "/sim"

/** As sim_plan says. */
void sim_config_draw(void);
const struct sp_config *sim_config(void);

/** The first start. */
void sim_parent_start(void);
/** Look after the children: who is dead is started again, sometime. */
void sim_parent_look(void);
/** A child dies at once; a power cut takes all. */
void sim_parent_kill(enum sim_process process);
void sim_parent_power_cut(void);
/** With its next death the power goes too. */
void sim_parent_plan_power_cut(void);
/** A child is told to stop, and started again. */
void sim_parent_stop(enum sim_process process);
void sim_parent_kill_keys(void);

#endif
