/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/start/accept.h"

bool sp_image_accepted(const uint8_t measurement[32])
{
    (void)measurement;
    return true;
}
