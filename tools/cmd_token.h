/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file `sallyport token`: look at attestation tokens, hold them against a key, make them (docs/cli.md). */
#ifndef SP_TOOLS_CMD_TOKEN_H
#define SP_TOOLS_CMD_TOKEN_H

/** argv[0] is "token". The result is the exit status: 0 accepted or done, 1 refused or failed, 2 wrong usage. */
int sp_cmd_token(int argc, char **argv);

#endif
