/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What the files of the application share. */
#ifndef SP_DEVICE_APP_APP_INTERNAL_H
#define SP_DEVICE_APP_APP_INTERNAL_H

#include "device/app/app.h"

/** The connection is of no more use: close it, wait, try again. `text` says why. */
void sp_app_fail(struct sp_app *app, uint64_t now_ms, const char *event, int32_t code,
                 struct sp_view text);

/** Begin the MQTT connection on a channel that is secure. False: it failed. */
bool sp_app_join(struct sp_app *app, uint64_t now_ms);

/** Move bytes and packets in both directions. False: the connection failed. */
bool sp_app_exchange(struct sp_app *app, uint64_t now_ms);

/** Take a reading when it is time; sets next_reading_ms. */
void sp_app_sample(struct sp_app *app, uint64_t now_ms);

/** Send the next record if it may go now. False: the connection failed. */
bool sp_app_publish(struct sp_app *app, uint64_t now_ms);

/** The gateway answered the record on its way. */
void sp_app_published(struct sp_app *app, uint64_t now_ms, uint8_t reason);

/** A writer behind what waits in tx; give it back with sp_app_sent(). */
struct sp_writer sp_app_writer(struct sp_app *app);
void sp_app_sent(struct sp_app *app, const struct sp_writer *w);

void sp_app_log(const struct sp_app *app, const char *event, int32_t code, struct sp_view text);
int64_t sp_app_utc(const struct sp_app *app, uint64_t now_ms);

#endif
