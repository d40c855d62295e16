/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The device as a liar, for tests and demonstrations (--tamper). */
#ifndef SP_DEVICE_PORT_POSIX_TAMPER_H
#define SP_DEVICE_PORT_POSIX_TAMPER_H

#include "device/app/app.h"
#include "sallyport/boot_record.h"

enum sp_tamper {
    SP_TAMPER_NONE,
    SP_TAMPER_MEASUREMENT, /**< reports another image than the one that runs */
    SP_TAMPER_LIFECYCLE,   /**< reports a debug lifecycle */
    SP_TAMPER_MAC,         /**< damages the token on its way */
    SP_TAMPER_REPLAY,      /**< sends one old token again and again */
};

/** @retval SP_ERR_NOT_FOUND No such way to lie. */
SP_MUST_CHECK enum sp_err sp_tamper_parse(const char *text, enum sp_tamper *out);

/** Change what will be reported, before the secure services start. */
void sp_tamper_boot(enum sp_tamper tamper, struct sp_boot_record *boot);

/** What to give the application in the place of psa_initial_attest_get_token(). */
sp_app_attest *sp_tamper_attest(enum sp_tamper tamper);

#endif
