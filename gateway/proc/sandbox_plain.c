/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/proc/sandbox_internal.h"

const struct sp_sandbox_rule sp_sandbox_extra_rules[] = {{.processes = 0}};
const size_t sp_sandbox_extra_rule_count = 0;
const char *const sp_sandbox_extra_folders[] = {NULL};
