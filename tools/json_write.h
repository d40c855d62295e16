/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file JSON text through a writer: commas and escapes are put in here. Nothing is allocated. */
#ifndef SP_TOOLS_JSON_WRITE_H
#define SP_TOOLS_JSON_WRITE_H

#include "libs/base/bytes.h"

/** `{`, `[` with a comma in front when one is needed; `}`, `]`. */
void sp_json_open(struct sp_writer *w, char bracket);
void sp_json_close(struct sp_writer *w, char bracket);

/** `"name":` with a comma in front when one is needed. */
void sp_json_key(struct sp_writer *w, const char *name);

/** A value: after a key, or in an array (a comma is put in front when one is needed). */
void sp_json_text(struct sp_writer *w, const char *text);
void sp_json_hex(struct sp_writer *w, struct sp_view bytes);
void sp_json_number(struct sp_writer *w, int64_t number);
void sp_json_bool(struct sp_writer *w, bool value);
void sp_json_null(struct sp_writer *w);

/** Seconds since 1970 as "2026-11-22T12:00:00Z"; 0 as null. */
void sp_json_time(struct sp_writer *w, int64_t seconds);

#define SP_TIME_TEXT_MAX 32U
/** The same without quotes; 0 as "-". `out` has SP_TIME_TEXT_MAX bytes. */
void sp_time_format(int64_t seconds, char *out);

#endif
