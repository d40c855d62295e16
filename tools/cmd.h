/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The subcommands of `sallyport`. argv[0] is the subcommand's name; the result is the exit status: 0 done or
 * accepted, 1 refused or failed, 2 wrong usage, and what `run` adds. sp_cmd_device(), sp_cmd_reference():
 * tools/cmd_registry.h; sp_cmd_token(): tools/cmd_token.h.
 */
#ifndef SP_TOOLS_CMD_H
#define SP_TOOLS_CMD_H

#define SP_EXIT_CONFIG 78 /**< of `run`: the configuration is faulty */

int sp_cmd_init(int argc, char **argv);
int sp_cmd_check(int argc, char **argv);
int sp_cmd_run(int argc, char **argv);
int sp_cmd_reload(int argc, char **argv);
int sp_cmd_status(int argc, char **argv);
int sp_cmd_journal(int argc, char **argv);
int sp_cmd_group(int argc, char **argv);
int sp_cmd_record(int argc, char **argv);

#endif
