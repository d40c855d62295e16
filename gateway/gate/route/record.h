/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What may stand in a sensor record (docs/protocol.md 5). Pure. */
#ifndef SP_GATEWAY_GATE_ROUTE_RECORD_H
#define SP_GATEWAY_GATE_ROUTE_RECORD_H

#include "gateway/proc/messages.h"

/**
 * Hold a record against what its device must send.
 *
 * @param[in] allowed What the registry's row asks for: weaker is refused.
 * @return NULL: it holds. Else what is wrong, as static text.
 */
const char *sp_record_check(struct sp_view payload, struct sp_view device, enum sp_records allowed);

#endif
